"""Fine-tuning of CHGNet by ``chgnet.trainer.Trainer``: all weights, from the pretrained ones in its package.

What CHGNet calls an epoch is here one pass over as many batches as lie between two validations of the recipe, so that
steps, validations and the order of structures are exactly the recipe's.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from chgnet.model.model import CHGNet
from chgnet.trainer.trainer import Trainer
from pymatgen.core import Lattice, Structure

from mlipbench.errors import ConfigError, DatasetError
from mlipbench.recipe import Cosine, Exponential
from mlipbench.structures.neighbors import completed_cell
from mlipbench.training.bridges.bridge import Bridge, Made
from mlipbench.training.files import replace_file
from mlipbench.training.order import Order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chgnet.graph import CrystalGraph

    from mlipbench.recipe import TrainingJob
    from mlipbench.training.bridges.bridge import Material
    from mlipbench.training.bridges.report import Report
    from mlipbench.training.data import LabelledStructures
    from mlipbench.training.steps import StepClock
    from mlipbench.typing import FloatArray, IntArray

PRESETS: Final = ("0.3.0", "0.2.0", "r2scan")
_PARTS: Final = 10  # how often CHGNet changes the learning rate between two validations
_RESUME: Final = "resume.pt"
_CONVERSIONS: Final = (
    "energies are per atom: energy_loss_ratio = energy * mean n (l1) or energy * mean n^2 (mse), n atoms per structure",
    "this conversion is exact where all structures have the same number of atoms, else on average",
    "force_loss_ratio = forces; forces of atoms that do not count are NaN, which the loss leaves out",
    "the energies of the composition model are set to zero; the energy reference of the recipe stands in for them",
    "an epoch is evaluate_every steps; the learning rate changes ten times in each",
    "AdamW without amsgrad",
)


class ChgnetBridge(Bridge):
    """Fine-tunes the pretrained weights that the preset names."""

    weights_file = "model.safetensors"

    def __init__(self, job: TrainingJob, material: Material) -> None:
        """Refuse presets and lengths that CHGNet does not know.

        Raises:
            ConfigError: There is one.
        """
        super().__init__(job, material)
        recipe = job.recipe
        where = f"recipe {recipe.recipe}"
        if recipe.preset not in PRESETS:
            raise ConfigError(
                f"unknown preset {recipe.preset!r}", where=f"{where}: preset", remedy=f"known: {', '.join(PRESETS)}"
            )
        if recipe.evaluate_every < _PARTS or self.steps % recipe.evaluate_every:
            raise ConfigError(
                "the trainer of CHGNet changes the learning rate ten times between two validations and ends with one",
                where=f"{where}: evaluate_every", remedy=f"give at least {_PARTS}, and a divisor of steps",
            )  # fmt: skip

    @property
    def steps(self) -> int:
        """Those of the recipe."""
        return self.job.recipe.steps or 0

    def train(self, folder: Path, learning_rate: float, report: Report) -> Made:
        """Train at one learning rate; a training that was killed goes on at its last validation, to the same bits."""
        folder.mkdir(parents=True, exist_ok=True)
        recipe, material = self.job.recipe, self.material
        arguments = self.arguments(learning_rate)
        with contextlib.redirect_stdout(sys.stderr):
            trainer = _trainer(folder / _RESUME, recipe.preset, arguments)
            converter = trainer.model.graph_converter
            train = labelled_graphs(material.train, material.train_targets, converter)
            validation = labelled_graphs(material.validation, material.validation_targets, converter)
            order = Order(len(train), recipe.batch, recipe.seed)
            loader = _Loader(train, order, (recipe.evaluate_every, trainer.starting_epoch), report.clock)
            n = len(validation)
            parts = [np.arange(start, min(start + recipe.batch, n)) for start in range(0, n, recipe.batch)]
            trainer.follow(report, loader, folder / _RESUME)
            report.begin(trainer.starting_epoch * recipe.evaluate_every)
            trainer.train(loader, [_collated(validation, part) for part in parts], save_dir=str(folder / "checkpoints"))
        return self._made(folder, arguments)

    def arguments(self, learning_rate: float) -> dict[str, Any]:
        """Return what CHGNet's trainer is told."""
        recipe = self.job.recipe
        schedule = recipe.schedule
        epochs = self.steps // recipe.evaluate_every
        factor = energy_factor(recipe.loss.kind, self.material.train.structures.counts)
        if isinstance(schedule, Cosine):
            scheduler, parameters = "CosLR", {"decay_fraction": schedule.final}
        else:
            final = schedule.final if isinstance(schedule, Exponential) else 1.0
            scheduler, parameters = "ExponentialLR", {"gamma": final ** (1.0 / (_PARTS * epochs))}
        return {
            "targets": "e" if self.material.train.forces is None else "ef",
            "energy_loss_ratio": recipe.loss.energy * factor,
            "force_loss_ratio": recipe.loss.forces,
            "allow_missing_labels": True,
            "optimizer": "AdamW",
            "weight_decay": recipe.weight_decay,
            "scheduler": scheduler,
            "scheduler_params": parameters,
            "criterion": "MAE" if recipe.loss.kind == "l1" else "MSE",
            "epochs": epochs,
            "learning_rate": learning_rate,
            "torch_seed": recipe.seed,
            "use_device": self.job.device,
            "print_freq": 100,
        }

    def _made(self, folder: Path, arguments: dict[str, Any]) -> Made:
        from safetensors.torch import save

        kind = "bestE" if self.material.train.forces is None else "bestF"
        (best,) = (folder / "checkpoints").glob(f"{kind}_*")
        model = torch.load(best, map_location="cpu", weights_only=True)["model"]
        content = save(model["state_dict"])
        weights = folder / self.weights_file
        replace_file(weights, lambda path: path.write_bytes(content))
        epoch = int(best.name.partition("epoch")[2].partition("_")[0])
        settings = {"trainer": "chgnet.trainer.Trainer", "arguments": arguments, "conversions": list(_CONVERSIONS)}
        return Made(weights, model["model_args"], settings, (epoch + 1) * self.job.recipe.evaluate_every)


def energy_factor(kind: str, counts: IntArray) -> float:
    """Return what the weight of the energies is multiplied by, because CHGNet's loss takes energies per atom.

    ``mean |ΔE| = mean n |ΔE / n|``, which is ``mean n * mean |ΔE / n|`` where all structures have the same number of
    atoms n, and on average where the error per atom does not depend on n; for squares likewise with ``mean n²``.

    Args:
        kind: Kind of the recipe's loss, ``l1`` or ``mse``.
        counts: Shape (n_structures,), atoms of the training structures.
    """
    return float(np.mean(counts) if kind == "l1" else np.mean(np.square(counts)))


def labelled_graphs(
    data: LabelledStructures, targets: FloatArray, converter: Any
) -> list[tuple[CrystalGraph, dict[str, torch.Tensor]]]:
    """Return CHGNet's graphs of structures with the labels of its trainer: eV per atom, and eV/Å.

    Args:
        data: The structures.
        targets: Shape (n_structures,), eV, energies without reference.
        converter: CHGNet's graph converter.

    Raises:
        DatasetError: CHGNet makes no graph of a structure.
    """
    batch, found = data.structures, []
    for s in range(data.n_structures):
        atoms = slice(batch.offsets[s], batch.offsets[s + 1])
        periodic = batch.pbc[s].astype(bool)
        lattice = Lattice(completed_cell(batch.cell[s], periodic), pbc=tuple(periodic.tolist()))
        structure = Structure(lattice, batch.numbers[atoms], batch.positions[atoms], coords_are_cartesian=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graph = converter(structure)
        except (RuntimeError, ValueError) as error:
            index = int(data.indices[s])
            raise DatasetError(
                f"CHGNet makes no graph of it ({error})", file=data.split.directory,
                where=f"structure {data.split.names(index, index + 1)[0]}", remedy="leave the structure out",
            ) from None  # fmt: skip
        forces = np.full((len(structure), 3), np.nan) if data.forces is None else data.forces[atoms].copy()
        forces[~data.counted[atoms]] = np.nan
        labels = {
            "e": torch.tensor(targets[s] / len(forces), dtype=torch.float32),
            "f": torch.tensor(forces, dtype=torch.float32),
        }
        found.append((graph, labels))
    return found


class _Loader:
    """Batches of one epoch of CHGNet's: those between two validations; the next pass takes the next ones.

    Attributes:
        step: Number of the step that the batch taken last is for.

    Args:
        examples: Graphs and labels.
        order: Which of them each step takes.
        place: Steps of an epoch, and the epoch to begin with.
        clock: Told how long steps take: from where a batch is asked for to where the trainer comes back for another.
    """

    def __init__(self, examples: list[Any], order: Order, place: tuple[int, int], clock: StepClock) -> None:
        self._examples = examples
        self._order = order
        self._length, self._epoch = place
        self._clock = clock
        self.step = self._epoch * self._length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        first = self._epoch * self._length
        self._epoch += 1
        for step in range(first, first + self._length):
            self.step = step + 1
            self._clock.start()
            yield _collated(self._examples, self._order.members(step))
            self._clock.stop()


class _FollowedTrainer(Trainer):
    """CHGNet's trainer, which tells of its steps and validations and keeps what it needs to go on after them."""

    def follow(self, report: Report, loader: _Loader, resume: Path) -> None:
        """Begin to tell.

        Args:
            report: What is told.
            loader: Of the training structures, which counts the steps.
            resume: Where to keep what a later process needs to go on.
        """
        self._report, self._loader, self._resume = report, loader, resume
        self._sums = np.zeros(4)
        self.criterion.register_forward_hook(self._after_loss)

    def save_checkpoint(self, epoch: int, mae_error: dict[str, float], save_dir: str) -> None:
        """Save as CHGNet does, and once more whole or not at all."""
        energy, structures, forces, components = self._sums
        self._sums = np.zeros(4)
        rate = float(self.optimizer.param_groups[0]["lr"])
        super().save_checkpoint(epoch, mae_error, save_dir)
        replace_file(self._resume, lambda path: self.save(str(path)))
        errors = energy / structures, forces / components if components else None
        self._report.evaluation(self._loader.step, rate, errors)

    def _after_loss(self, _: Any, inputs: tuple[Any, Any], output: dict[str, Any]) -> None:
        if self.model.training:
            self._report.step(self._loader.step, float(output["loss"]))
            return
        targets, prediction = inputs
        counts = torch.tensor([len(forces) for forces in targets["f"]])
        energy = ((prediction["e"] - targets["e"]).abs().cpu() * counts).sum()
        self._sums += [float(energy), len(counts), 0.0, 0.0]
        if "f" not in prediction:
            return
        difference = (torch.cat(prediction["f"]) - torch.cat(targets["f"])).abs()
        known = ~torch.isnan(difference)
        self._sums += [0.0, 0.0, float(difference[known].sum()), float(known.sum())]


def _trainer(resume: Path, preset: str, arguments: dict[str, Any]) -> _FollowedTrainer:
    """Return a trainer at the last validation of an earlier process, or at the start."""
    if resume.is_file():
        trainer: _FollowedTrainer = _FollowedTrainer.load(str(resume))
        return trainer
    model = CHGNet.load(model_name=preset, use_device="cpu", verbose=False)
    torch.nn.init.zeros_(model.composition_model.fc.weight)
    # the trainer empties the dictionary of its schedule
    copied = {**arguments, "scheduler_params": dict(arguments["scheduler_params"])}
    return _FollowedTrainer(model, **copied)


def _collated(examples: list[Any], members: IntArray) -> tuple[list[Any], dict[str, Any]]:
    """Return a batch as CHGNet's trainer takes it."""
    chosen = [examples[int(member)] for member in members]
    labels = {"e": torch.stack([label["e"] for _, label in chosen]), "f": [label["f"] for _, label in chosen]}
    return [graph for graph, _ in chosen], labels
