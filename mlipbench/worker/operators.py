"""The operators that torch dispatches while a function runs, by class and with their count of operations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mlipbench.cost import FlopCount, Operator, OperatorClass

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARIES: Final = frozenset({"aten", "prims"})
_MARKS: Final = frozenset({"prim", "profiler"})  # they ask for metadata, or mark a stretch for a profiler
# Allocation, metadata and data movement of aten, besides what torch itself calls a view; without a last underscore.
_MOVING: Final = frozenset(
    """
    _assert_async _assert_scalar _assert_tensor_metadata _local_scalar_dense _pin_memory _reshape_alias _to_copy
    _unsafe_view alias_copy arange as_strided cat clone constant_pad_nd contiguous copy detach diag_embed embedding
    empty empty_like empty_permuted empty_strided eye fill flip full full_like gather index index_copy index_fill
    index_select is_pinned is_same_size lift lift_fresh masked_fill masked_scatter masked_select new_empty
    new_empty_strided new_full new_ones new_zeros nonzero ones ones_like record_stream repeat repeat_interleave resize
    roll scalar_tensor scatter select_backward select_scatter set_data slice_backward slice_scatter
    split_with_sizes_copy squeeze stack swap_axes swapdims t transpose tril triu unfold_backward unsafe_chunk
    unsafe_split unsafe_split_with_sizes unsqueeze where zero zeros zeros_like
    """.split()  # noqa: SIM905 - a list of one a line is no easier to read
)
# A word in the name of an operator of aten that multiplies matrices or does as much work. Where it has no formula, as
# products of sparse matrices and fused recurrent layers have none, its work must not pass for elementwise.
_HEAVY: Final = re.compile(
    r"[a-z]*mm|matmul|linear|conv(\dd)?|convolution|attention|rnn|lstm|gru|trilinear|cdist|euclidean"
)


def _matrix_by_vector(matrix: torch.Tensor, _vector: torch.Tensor, **_: Any) -> int:
    return 2 * int(matrix.numel())


def _added_matrix_by_vector(_added: torch.Tensor, matrix: torch.Tensor, _vector: torch.Tensor, **_: Any) -> int:
    return 2 * int(matrix.numel())


def _added_batch(_added: torch.Tensor, first: torch.Tensor, second: torch.Tensor, **_: Any) -> int:
    return 2 * int(first.numel()) * int(second.shape[-1])


_ATEN: Final = torch.ops.aten
_ON_CPU: Final = _ATEN._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - so torch calls it
_ON_CPU_BACKWARD: Final = _ATEN._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001
# Products that torch's registry lacks: with vectors, a sum over a batch, in place, and attention on a processor.
_MORE_FORMULAS: Final = {
    _ATEN.mv: _matrix_by_vector,
    _ATEN.dot: _matrix_by_vector,
    _ATEN.vdot: _matrix_by_vector,
    _ATEN.addmv: _added_matrix_by_vector,
    _ATEN.addmv_: _added_matrix_by_vector,
    _ATEN.addbmm: _added_batch,
    _ATEN.addbmm_: _added_batch,
    _ATEN.addmm_: flop_registry[_ATEN.addmm],
    _ATEN.baddbmm_: flop_registry[_ATEN.baddbmm],
    _ON_CPU: flop_registry[_ATEN._scaled_dot_product_flash_attention],  # noqa: SLF001
    _ON_CPU_BACKWARD: flop_registry[_ATEN._scaled_dot_product_flash_attention_backward],  # noqa: SLF001
}


@dataclass(slots=True)
class _Row:
    """What was seen of an operator so far."""

    kind: OperatorClass
    calls: int = 0
    elements: int = 0
    flops: int = 0


@dataclass(slots=True)
class Tally:
    """What was seen so far.

    Attributes:
        rows: By name of the operator.
        inside: Whether the calls seen now happen inside of what an observer covers.
        covered: Calls of products that did.
    """

    rows: dict[str, _Row] = field(default_factory=dict)
    inside: bool = False
    covered: int = 0

    def add(self, name: str, kind: OperatorClass, result: Any, flops: int = 0) -> None:
        """Add one call.

        Args:
            name: Name of the operator.
            kind: Its class.
            result: What it returned.
            flops: Its operations.
        """
        row = self.rows.setdefault(name, _Row(kind))
        row.calls += 1
        row.elements += sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        row.flops += flops
        self.covered += self.inside and kind is OperatorClass.PRODUCT

    def count(self) -> FlopCount:
        """Return the count."""
        operators = [
            Operator(name, row.kind, row.calls, row.elements, row.flops) for name, row in sorted(self.rows.items())
        ]
        return FlopCount(tuple(sorted(operators, key=lambda one: (-one.flops, -one.elements, one.name))))


class CountingMode(TorchDispatchMode):
    """Sees every call of an operator that torch dispatches, forwards and backwards, and lets it happen.

    It is torch's own `FlopCounterMode` without the hooks on modules, which refuse some models that differentiate
    inside. Under ``inference_mode`` composite operators arrive whole; they are taken apart here.

    Args:
        tally: Where calls are added.
    """

    supports_higher_order_operators = True

    def __init__(self, tally: Tally) -> None:
        """Keep the tally."""
        super().__init__()
        self._tally = tally

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operator, and add the call to the tally."""
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):  # noqa: SLF001 - torch has no other name for it
            result = func(*args, **kwargs)  # such as a loop, or a kernel of Triton's
            self._tally.add(f"higher_order.{func.name()}", OperatorClass.OPAQUE, result)
            return result
        packet = func.overloadpacket
        name = f"{func.namespace}.{packet.__name__}"
        formula = flop_registry.get(packet) or _MORE_FORMULAS.get(packet)
        if formula is None and func.namespace not in _MARKS:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None:
            self._tally.add(name, OperatorClass.PRODUCT, result, int(formula(*args, **kwargs, out_val=result)))
        else:
            self._tally.add(name, _classify(func, packet.__name__, args, kwargs), result)
        return result


def count_dispatched(call: Callable[[], object], tally: Tally | None = None) -> FlopCount:
    """Return what `call` makes torch dispatch. Functions that were compiled run as they were written meanwhile.

    Args:
        call: Runs a model.
        tally: Where calls are added; None makes a new one.
    """
    tally = Tally() if tally is None else tally
    with torch.compiler.set_stance("force_eager"), CountingMode(tally):
        call()
    return tally.count()


def _classify(func: Any, name: str, args: Any, kwargs: Any) -> OperatorClass:
    if func.namespace in _MARKS or func.is_view:
        return OperatorClass.FREE
    if func.namespace not in _LIBRARIES:
        return OperatorClass.OPAQUE
    plain = name.rstrip("_")
    if any(_HEAVY.fullmatch(word) for word in plain.split("_")):
        return OperatorClass.OPAQUE
    if plain in {"index_put", "_index_put_impl", "_unsafe_index_put"}:
        adds = args[3] if len(args) > 3 else kwargs.get("accumulate", False)  # noqa: PLR2004 - its fourth argument
        return OperatorClass.ARITHMETIC if adds else OperatorClass.FREE
    if plain == "scatter" and ("reduce" in kwargs or "reduce" in str(func)):
        return OperatorClass.ARITHMETIC
    return OperatorClass.FREE if plain in _MOVING else OperatorClass.ARITHMETIC
