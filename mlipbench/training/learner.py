"""A network, its optimiser and its running average: all tensors of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import clip_grad_norm_, get_total_norm

from mlipbench import nets
from mlipbench.errors import ConfigError
from mlipbench.nets.load import set_tensors, tensors_of
from mlipbench.training.loss import Counts, loss_share
from mlipbench.training.optim import Average

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_fabric import Fabric
    from torch import Tensor

    from mlipbench.nets import Network
    from mlipbench.recipe import TrainingJob
    from mlipbench.training.batches import Batch

_WEIGHTS, _AVERAGE, _OPTIMISER, _BEST = "weights", "average", "optimiser", "best"


def build_network(job: TrainingJob) -> Network:
    """Return the network of a job with its first weights, a function of the seed alone.

    Raises:
        ConfigError: The preset or the changes do not fit the network.
    """
    torch.manual_seed(job.recipe.seed)
    try:
        network: Network = nets.build(job.net, job.recipe.preset, **job.recipe.changes).to(precision(job))
    except (TypeError, ValueError, RuntimeError) as error:
        if not job.recipe.changes:
            raise
        where = f"recipe {job.recipe.recipe}: changes"
        raise ConfigError(f"the network {job.net} cannot be built: {error}", where=where) from None
    return network


def precision(job: TrainingJob) -> torch.dtype:
    """Return the precision a job asks for."""
    return torch.float64 if job.recipe.precision == "float64" else torch.float32


class Learner:
    """What a training changes with every step.

    Attributes:
        average: The weights that are validated.
        best: The weights that are kept, by name, in host memory.

    Args:
        job: What is trained.
        fabric: The processes and their device.
    """

    def __init__(self, job: TrainingJob, fabric: Fabric) -> None:
        """Build the network and the optimiser."""
        self._recipe = job.recipe
        self._fabric = fabric
        self._network = build_network(job).to(fabric.device).train()
        self.average = Average(self._network, job.recipe.ema_decay)
        self.best: dict[str, Tensor] = {}
        self._module: Any = fabric.setup_module(self._network)
        self._weights = list(self._network.parameters())
        self._optimiser = torch.optim.AdamW(
            self._weights, weight_decay=job.recipe.weight_decay, amsgrad=True, fused=True
        )

    def step(self, batch: Batch, counts: Counts, learning_rate: float) -> Tensor:
        """Do one optimiser step.

        Args:
            batch: This process's part of the batch.
            counts: Of the whole batch.
            learning_rate: The learning rate.

        Returns:
            The part's share of the loss before the step; not finite where the loss or the norm of the gradient is not.
        """
        world = self._fabric.world_size
        output = self._module(batch.graph, forces=self._recipe.loss.forces > 0)
        share = loss_share(self._recipe.loss, output, batch, counts)
        self._optimiser.zero_grad()
        # DDP takes the mean of the processes' gradients, where their sum is wanted
        self._fabric.backward(share * world)
        if self._recipe.clip is None:
            norm = get_total_norm([weight.grad for weight in self._weights if weight.grad is not None])
        else:
            norm = clip_grad_norm_(self._weights, self._recipe.clip)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        self._optimiser.step()
        self.average.update()
        return share.detach() + 0.0 * norm

    def averaged(self) -> Network:
        """Return the network to validate: averaged weights, and the buffers of the first process."""
        if self._fabric.world_size > 1:
            for buffer in self._network.buffers():
                torch.distributed.broadcast(buffer, src=0)
        self.average.catch_up()
        return self.average.network

    def keep(self) -> None:
        """Keep the averaged weights as the best."""
        weights = tensors_of(self.average.network)
        self.best = {name: value.to("cpu", copy=True) for name, value in weights.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, in host memory."""
        groups: dict[str, Mapping[str, Tensor]] = {
            _WEIGHTS: tensors_of(self._network),
            _AVERAGE: tensors_of(self.average.network),
            _BEST: self.best,
        }
        for place, moments in self._optimiser.state_dict()["state"].items():
            groups[f"{_OPTIMISER}.{place}"] = moments
        return {
            f"{group}.{name}": value.detach().cpu().contiguous()
            for group, values in groups.items()
            for name, value in values.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all tensors.

        Args:
            tensors: What `tensors` returned.
        """
        set_tensors(self._network, group_of(tensors, _WEIGHTS))
        set_tensors(self.average.network, group_of(tensors, _AVERAGE))
        self.best = best_of(tensors)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in group_of(tensors, _OPTIMISER).items():
            place, _, name = key.partition(".")
            state.setdefault(int(place), {})[name] = value
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": state})


def best_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that are kept, by name, of what `Learner.tensors` returned."""
    return group_of(tensors, _BEST)


def group_of(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a group's, by the rest of their names."""
    prefix = f"{group}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
