"""What one call of a model costs, as counted beside it: what the harness and the worker both know of it.

A figure that cannot be had is None and stands beside the reason; it is never a zero, and never a part of the whole.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_MODULE: Final = "the model is no torch module"
_LEAST_SHARE: Final = 0.5
_NAMED: Final = 3


class OperatorClass(StrEnum):
    """What a call of an operator of torch means for a count of operations."""

    PRODUCT = "product"  # a product of matrices or vectors, a convolution or an attention: counted by a formula
    FREE = "free"  # a view, metadata, allocation or data movement: no arithmetic
    ARITHMETIC = "arithmetic"  # elementwise, reduction, scatter, decomposition: not counted
    OPAQUE = "opaque"  # of no class that is known, such as an operator of another library: not looked into


@dataclass(frozen=True, slots=True)
class Operator:
    """The calls of one operator.

    Attributes:
        name: Such as ``aten.mul``.
        kind: Its class.
        calls: How often it was called.
        elements: Elements of what it returned, over all calls.
        flops: Floating-point operations, over all calls; 0 where they are not counted.
    """

    name: str
    kind: OperatorClass
    calls: int
    elements: int
    flops: int


@dataclass(frozen=True, slots=True)
class FlopCount:
    """Floating-point operations of products of matrices, as torch dispatched them; a multiply-add is two.

    Attributes:
        operators: Every operator that was called, the most costly products first, then those with most elements.
        unavailable: Why nothing could be counted, None where it was.
    """

    operators: tuple[Operator, ...] = ()
    unavailable: str | None = None

    @property
    def flops(self) -> int | None:
        """The count; None where `reason` says why it cannot be trusted."""
        return self.counted if self.reason is None else None

    @property
    def reason(self) -> str | None:
        """Why there is no figure, in one line.

        A count is given only if no opaque operator was called, and if it is at least half of what was seen, with one
        operation for each element that a call of the class ``arithmetic`` returned. A model that multiplies and sums
        where others multiply matrices would otherwise look cheap.
        """
        if self.unavailable is not None:
            return self.unavailable
        opaque = [operator.name for operator in self.operators if operator.kind is OperatorClass.OPAQUE]
        if opaque:
            more = f" and {len(opaque) - _NAMED} more" if len(opaque) > _NAMED else ""
            return f"not looked into: {', '.join(opaque[:_NAMED])}{more}"
        share = self.product_share
        if share is not None and share < _LEAST_SHARE:
            return f"products of matrices are {share:.0%} of the arithmetic only"
        return None

    @property
    def counted(self) -> int:
        """Floating-point operations of all that was counted, whether or not it is the whole."""
        return sum(operator.flops for operator in self.operators)

    def calls(self, kind: OperatorClass) -> int:
        """Return how many calls were of a class."""
        return sum(operator.calls for operator in self.operators if operator.kind is kind)

    def elements(self, kind: OperatorClass) -> int:
        """Return how many elements the calls of a class returned."""
        return sum(operator.elements for operator in self.operators if operator.kind is kind)

    def largest(self, kind: OperatorClass) -> tuple[Operator, ...]:
        """Return the operators of a class, the one that returned most elements first."""
        found = [operator for operator in self.operators if operator.kind is kind]
        return tuple(sorted(found, key=lambda operator: (-operator.elements, operator.name)))

    @property
    def call_share(self) -> float | None:
        """The share of calls that were counted, of those that compute; None where nothing does."""
        return _share(self.calls(OperatorClass.PRODUCT), self._computing())

    @property
    def product_share(self) -> float | None:
        """Counted operations over these and one for each element of the class ``arithmetic``; None without any."""
        return _share(self.counted, self.counted + self.elements(OperatorClass.ARITHMETIC))

    def _computing(self) -> int:
        return sum(operator.calls for operator in self.operators if operator.kind is not OperatorClass.FREE)


@dataclass(frozen=True, slots=True)
class ThopCount:
    """What thop (PyTorch-OpCounter) says, which published figures often come from.

    Attributes:
        macs: Multiply-adds of the modules that thop has a rule for, in the forward pass only; None where it fails.
        reason: Why it failed, None where it did not.
        covered: The share of the calls of products (`OperatorClass.PRODUCT`) that happened inside such modules; None
            where there are none, or it failed.
        unseen: Types of the modules that have parameters of their own and no rule, in alphabetical order.
    """

    macs: int | None
    reason: str | None = None
    covered: float | None = None
    unseen: tuple[str, ...] = ()

    @property
    def flops(self) -> int | None:
        """Twice the multiply-adds."""
        return None if self.macs is None else 2 * self.macs


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Numbers of parameters, where one that stands in several places counts once.

    Attributes:
        total: All; None where the model is no torch module.
        trainable: Those that training changes.
        without_gradient: Of the trainable ones, those in tensors that nothing connects with energy or forces, so that
            training never changes them. Rows of a tensor that happen to get zeros do not count.
        reason: Why a figure is None.
    """

    total: int | None
    trainable: int | None
    without_gradient: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CallCost:
    """One kind of call, counted in two ways.

    Attributes:
        dispatched: What torch dispatched.
        thop: What thop says.
    """

    dispatched: FlopCount
    thop: ThopCount


@dataclass(frozen=True, slots=True)
class CostFacts:
    """What the worker counted on one batch.

    Attributes:
        n_structures: Structures of the batch that the model covers.
        n_atoms: Their atoms.
        n_edges: Edges of the model's graph of them, each direction counted; None where it cannot be known.
        parameters: Of the model.
        energy: The call that asks for energies only.
        forces: The call that asks for energies and forces; None where forces were not asked for.
    """

    n_structures: int
    n_atoms: int
    n_edges: int | None
    parameters: ParameterCount
    energy: CallCost
    forces: CallCost | None = None

    def as_header(self) -> dict[str, Any]:
        """Return the facts as JSON data."""
        return asdict(self)

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Self:
        """Return the facts that `as_header` made JSON data of.

        Raises:
            ValueError: They are not whole.
        """
        try:
            numbers = {name: header[name] for name in ("n_structures", "n_atoms", "n_edges")}
            forces = header["forces"]
            return cls(
                **numbers,
                parameters=ParameterCount(**header["parameters"]),
                energy=_call(header["energy"]),
                forces=None if forces is None else _call(forces),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"a reply to a request to count does not hold the facts: {error}") from error


class Stage(StrEnum):
    """What a timed call was made for."""

    COLD = "cold"  # the first call of all
    WARM_UP = "warm_up"
    LATENCY = "latency"  # one structure: energy and forces
    ENERGY = "energy"  # one structure: the energy alone
    THROUGHPUT = "throughput"  # many structures: energy and forces


TIMED: Final = ("prepare_seconds", "forward_seconds", "cpu_seconds", "page_faults", "compile_seconds")
"""The fields of a `Call` that the worker measures."""


@dataclass(frozen=True, slots=True)
class Call:
    """One timed call of a model.

    Attributes:
        stage: What it was made for.
        round: Number of the round; of throughput, counted anew for each size.
        turn: Which model's turn it was in the round, counted from 0.
        call: Number of the call in the turn, counted from 0 without those that do not count.
        place: Which of the measured structures was the (first) one.
        n_structures: Structures of the call.
        n_atoms: Atoms of the call.
        prepare_seconds: Building graphs and transferring them.
        forward_seconds: The model itself.
        cpu_seconds: Of all threads together.
        page_faults: Pages of memory that the system had to provide.
        compile_seconds: What of both halves went into torch's compiler.
        reference_seconds: What the reference model took for the very structures in the same round; None where it took
            no part.
        baseline_seconds: Likewise, of the variant of the same model that its variants are compared with.
        peak_allocator: Most bytes that the device's allocator held during the turn; None where it keeps no count.
        peak_memory: Most bytes held during the turn, of the device or, on a processor, by the process.
    """

    stage: Stage
    round: int
    turn: int
    call: int
    place: int
    n_structures: int
    n_atoms: int
    prepare_seconds: float
    forward_seconds: float
    cpu_seconds: float
    page_faults: int
    compile_seconds: float
    reference_seconds: float | None
    baseline_seconds: float | None
    peak_allocator: int | None
    peak_memory: int

    @property
    def seconds(self) -> float:
        """Both halves together."""
        return self.prepare_seconds + self.forward_seconds


@dataclass(frozen=True, slots=True)
class ParityFacts:
    """How a variant of a model compares with another that is known to be right.

    Attributes:
        against: What its predictions are compared with, in words.
        energy: eV for each atom, the largest difference of the energy of a structure; None where `reason` says why.
        forces: eV/Å, the largest difference of the force on an atom, its length; None likewise.
        n_structures: Structures that were compared.
        conservation: eV/Å, root mean square of F·d + dE/dd over structures, where d is a direction drawn at random;
            None where it could not be had.
        n_conservation: Structures that entered it.
        step: Å, of the central differences that dE/dd is taken by.
        baseline: The variant that times are compared with; None where the suite lists none without settings.
        reason: Why the differences are missing, None where they are not.
        is_reference: Whether it is itself what the others are compared with.
    """

    against: str
    energy: float | None = None
    forces: float | None = None
    n_structures: int = 0
    conservation: float | None = None
    n_conservation: int = 0
    step: float | None = None
    baseline: str | None = None
    reason: str | None = None
    is_reference: bool = False


def _call(told: Mapping[str, Any]) -> CallCost:
    operators = tuple(
        Operator(**{**operator, "kind": OperatorClass(operator["kind"])})
        for operator in told["dispatched"]["operators"]
    )
    thop = {**told["thop"], "unseen": tuple(told["thop"]["unseen"])}
    return CallCost(FlopCount(operators, told["dispatched"]["unavailable"]), ThopCount(**thop))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
