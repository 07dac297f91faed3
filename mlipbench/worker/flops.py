"""What a call of a model costs, counted: parameters, and floating-point operations by two counters.

The first counter sees every operator that torch dispatches while the adapter's `forward` runs, with the backward pass
of models that differentiate their energy, and applies torch's own formulas to products of matrices
(`torch.utils.flop_counter`). A multiply-add is two operations. What the formulas do not cover is told apart
(`mlipbench.cost.OperatorClass`): views and data movement; arithmetic that is not counted, with the number of elements
it returned; and operators that cannot be looked into, one of which is enough for there to be no figure. Code that does
not go through torch's dispatcher is not seen at all: numpy, kernels that a package launches by itself, the inside of
compiled extensions. Functions under `torch.compile` are counted as they were written, with compilation off.

The second is thop, PyTorch-OpCounter: rules for modules of `torch.nn`, run in hooks. It sees no product outside of such
a module and no backward pass, counts a module twice that has two parents, and refuses modules of TorchScript. It stands
here because published figures were made with it.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.conformance.contract import check_predictions
from mlipbench.cost import NO_MODULE, CallCost, CostFacts, FlopCount, OperatorClass, ParameterCount, ThopCount
from mlipbench.models.interface import Property
from mlipbench.protocol import Message, MessageKind, batch_from_arrays
from mlipbench.structures.neighbors import neighbor_list
from mlipbench.worker.s2ef import asked_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mlipbench.models.interface import Adapter, Predictions
    from mlipbench.structures import StructureBatch
    from mlipbench.worker.session import Session

_ENERGY: Final = frozenset({Property.ENERGY})
_MOST: Final = frozenset({Property.ENERGY, Property.FORCES})
_WARM_UP_CALLS: Final = 2  # TorchScript observes its first call, and rewrites the code in its second
_THOP_BUFFERS: Final = ("total_ops", "total_params")


def count(session: Session, message: Message) -> Message:
    """Answer a ``count`` request: the cost of predicting a batch, energies alone and, where asked for, with forces.

    The header of the reply ``counted`` is `CostFacts.as_header`. `Adapter.forward` is counted, and `Adapter.prepare`,
    which makes the neighbour lists, is not.

    Raises:
        WorkerError: The adapter returned something other than the predictions asked for.
    """
    batch, properties = batch_from_arrays(message.arrays), asked_properties(message)
    facts = _facts(session, batch, _MOST if Property.FORCES in properties else _ENERGY)
    session.device.release()  # what a whole batch took would be missing to the models that are measured beside
    return Message(MessageKind.COUNTED, facts.as_header())


def _facts(session: Session, batch: StructureBatch, asked: frozenset[Property]) -> CostFacts:
    """Count what a batch costs."""
    adapter = session.adapter
    prepared = adapter.prepare(batch)
    predictions = _run(adapter, batch, prepared, asked)
    covered = np.ones(batch.n_structures, dtype=np.bool_)
    covered[list(predictions.not_applicable)] = False
    if not covered.any():
        reason = min(predictions.not_applicable.values(), default="there is no structure")
        nothing = CallCost(FlopCount(unavailable=reason), ThopCount(None, reason))
        return CostFacts(
            n_structures=0,
            n_atoms=0,
            n_edges=None,
            parameters=_parameters(adapter, None),
            energy=nothing,
            forces=nothing if asked == _MOST else None,
        )

    one = batch.select(np.flatnonzero(covered)[:1])
    prepared_one = adapter.prepare(one)

    def cost(wanted: frozenset[Property]) -> CallCost:
        for _ in range(_WARM_UP_CALLS):
            session.send(Message(MessageKind.ALIVE))
            _run(adapter, one, prepared_one, wanted)
        session.send(Message(MessageKind.ALIVE))
        return _cost(adapter, lambda: _run(adapter, batch, prepared, wanted))

    return CostFacts(
        n_structures=int(covered.sum()),
        n_atoms=int(batch.counts[covered].sum()),
        n_edges=_edges(adapter, batch.select(np.flatnonzero(covered)), prepared),
        energy=cost(_ENERGY),
        forces=cost(_MOST) if asked == _MOST else None,
        parameters=_parameters(adapter, prepared),
    )


def count_flops(call: Callable[[], object]) -> FlopCount:
    """Return the operations of the products of matrices that `call` makes torch dispatch.

    The same call gives the same count, with or without gradients and under ``inference_mode``. A lazy call has to have
    run before: what a model sets up when it is first used would be counted.
    """
    from mlipbench.worker.operators import count_dispatched

    return count_dispatched(call)


def count_thop(module: Any, call: Callable[[], object]) -> ThopCount:
    """Return the multiply-adds that thop sees in a module while `call` runs it.

    Afterwards the module is as it was, also where thop fails.

    Args:
        module: A ``torch.nn.Module``.
        call: Runs it.
    """
    with contextlib.redirect_stdout(sys.stderr):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it imports what Python has given up
                from thop import profile
                from thop.profile import register_hooks
                from thop.vision.basic_hooks import zero_ops
        except ImportError as error:
            return ThopCount(None, f"thop cannot be imported: {error}")
        from mlipbench.worker.operators import CountingMode, Tally

        tally = Tally()
        rules = {kind for kind, rule in register_hooks.items() if rule is not zero_ops}
        ruled = [part for part in module.modules() if type(part) in rules]
        try:
            with _unharmed(module), _watched(ruled, tally), CountingMode(tally):
                macs, _ = profile(_called(module, call), inputs=(), verbose=False)
        except (RuntimeError, AttributeError, LookupError, TypeError, ValueError) as error:
            line = (str(error).strip().splitlines() or [""])[0]
            return ThopCount(None, f"thop fails: {type(error).__name__}: {line}")
    products = tally.count().calls(OperatorClass.PRODUCT)
    with_parameters = (part for part in module.modules() if next(part.parameters(recurse=False), None) is not None)
    unseen = sorted({type(part).__name__ for part in with_parameters if type(part) not in rules})
    return ThopCount(round(macs), None, tally.covered / products if products else None, tuple(unseen))


def count_parameters(
    module: Any, outputs: Callable[[], Sequence[Any] | None], trainable: Iterable[str] | None = None
) -> ParameterCount:
    """Return how many parameters a module has, and how many no gradient reaches.

    A gradient reaches the tensors that are leaves of the graph which autograd records from the parameters to the
    outputs. Nothing is differentiated, so that it does not matter whether a model has used up the graph for its forces.

    Args:
        module: A ``torch.nn.Module``.
        outputs: Runs the model with gradients and returns its energies and, where these are no derivatives of the
            energies, its forces; None where that cannot be done.
        trainable: Names of the parameters that training changes; None takes those that require a gradient.
    """
    import torch

    named = dict(module.named_parameters())  # one that stands in several places has one name here
    chosen = {name for name, tensor in named.items() if tensor.requires_grad} if trainable is None else set(trainable)
    tensors = [tensor for name, tensor in named.items() if name in chosen]
    before = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_()
        with torch.enable_grad():
            found = outputs()
        reached = None if found is None else _leaves(found)
        del found
    finally:
        for tensor, required in zip(tensors, before, strict=True):
            tensor.requires_grad_(required)
    total, size = sum(tensor.numel() for tensor in named.values()), sum(tensor.numel() for tensor in tensors)
    if reached is None:
        return ParameterCount(total, size, None, "the package gives no outputs that can be differentiated")
    return ParameterCount(total, size, sum(tensor.numel() for tensor in tensors if id(tensor) not in reached))


def _run(adapter: Adapter, batch: StructureBatch, prepared: Any, wanted: frozenset[Property]) -> Predictions:
    predictions = adapter.forward(prepared, wanted)
    check_predictions(batch, predictions, wanted)
    return predictions


def _cost(adapter: Adapter, call: Callable[[], object]) -> CallCost:
    module = adapter.module()
    if module is None:
        return CallCost(FlopCount(unavailable=NO_MODULE), ThopCount(None, NO_MODULE))
    with adapter.countable():
        return CallCost(count_flops(call), count_thop(module, call))


def _parameters(adapter: Adapter, prepared: Any) -> ParameterCount:
    module = adapter.module()
    if module is None:
        return ParameterCount(None, None, None, NO_MODULE)
    outputs = adapter.differentiable if prepared is not None else lambda _: None
    return count_parameters(module, lambda: outputs(prepared), adapter.trainable)


def _edges(adapter: Adapter, covered: StructureBatch, prepared: Any) -> int | None:
    """Return the edges of the model's graph: its own word, else those within the cutoff of the harness's lists."""
    told = adapter.n_edges(prepared)
    if told is None and adapter.cutoff is not None:
        return neighbor_list(covered, adapter.cutoff).n_edges
    return told


def _leaves(outputs: Sequence[Any]) -> set[int]:
    """Return the ids of the tensors that the graphs of some tensors end in."""
    waiting = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    leaves = {id(tensor) for tensor in outputs if tensor.grad_fn is None and tensor.requires_grad}
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # where a gradient is accumulated
            leaves.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return leaves


def _called(module: Any, call: Callable[[], object]) -> Any:
    """Return a module that holds `module` and runs `call`, for thop to call without arguments."""
    import torch

    class Called(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.training = False

        def forward(self) -> None:
            with torch.enable_grad():  # thop switches gradients off, and some models do not switch them on again
                call()

    return Called()


@contextlib.contextmanager
def _watched(parts: Sequence[Any], tally: Any) -> Iterator[None]:
    """Let a tally know when one of some modules runs, none of which holds another."""

    def enter(*_: object) -> None:
        tally.inside = True

    def leave(*_: object) -> None:
        tally.inside = False

    handles = [handle for part in parts for handle in _hooks(part, enter, leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(part: Any, enter: Callable[..., None], leave: Callable[..., None]) -> tuple[Any, Any]:
    return part.register_forward_pre_hook(enter), part.register_forward_hook(leave)


@contextlib.contextmanager
def _unharmed(module: Any) -> Iterator[None]:
    """Take away from a module the hooks, buffers and modes that a profiler leaves behind."""
    parts = list(module.modules())
    hooks = [set(part._forward_hooks) for part in parts]  # noqa: SLF001 - there is no other way to them
    modes = [part.training for part in parts]
    try:
        yield
    finally:
        for part, known, mode in zip(parts, hooks, modes, strict=True):
            for key in set(part._forward_hooks) - known:  # noqa: SLF001
                del part._forward_hooks[key]  # noqa: SLF001
            for name in _THOP_BUFFERS:
                if name in dict(part.named_buffers(recurse=False)):
                    delattr(part, name)
            if part.training != mode:
                part.training = mode
