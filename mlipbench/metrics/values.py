"""The data that metrics take and give: properties, error sums per structure, and numbers with their intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.typing import AnyArray, FloatArray, IntArray


class Direction(StrEnum):
    """Which way a metric improves."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"  # shown, never ranked


class Quantity(StrEnum):
    """What a metric can need of a split, by the name of the column: labels, tags, and clusters."""

    ENERGY = "energy"
    FORCES = "forces"
    STRESS = "stress"
    RELAXED_ENERGY = "relaxed_energy"
    RELAXED_POSITIONS = "relaxed_positions"
    TAGS = "tags"
    CLUSTERS = "cluster_names"


class Kind(StrEnum):
    """The range of a metric, which decides the scale its interval is computed on."""

    POSITIVE = "positive"
    """[0, ∞): errors. Intervals are symmetric in the logarithm."""
    BOUNDED = "bounded"
    """[-1, 1]: correlations and cosines. Intervals are symmetric in the value itself."""
    FRACTION = "fraction"
    """[0, 1]: shares of structures. Intervals are binomial with an effective sample size."""
    COUNT = "count"
    """Whole numbers that are counted; they have no interval."""
    REAL = "real"
    """(-∞, ∞): quantities of either sign. Intervals are symmetric in the value itself."""


class Transform(StrEnum):
    """What is applied to the ratio of sums to get the metric."""

    IDENTITY = "identity"
    SQRT = "sqrt"


@dataclass(frozen=True, slots=True)
class Scale:
    """Range of a metric and what is applied to its ratio of sums.

    Attributes:
        kind: Range of the metric.
        transform: Applied to the ratio.

    Raises:
        ValueError: If a root is asked for of anything but a positive metric.
    """

    kind: Kind
    transform: Transform = Transform.IDENTITY

    def __post_init__(self) -> None:
        """Refuse a root of what can be negative or is a share."""
        if self.transform is Transform.SQRT and self.kind is not Kind.POSITIVE:
            msg = f"a {self.kind} metric has no square root"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One metric of one model on one split.

    Attributes:
        name: Name of the metric, e.g. ``forces_mae``.
        value: The number in ``unit``, or None where it could not be computed.
        unit: Unit of the value and of the interval; ``1`` for a pure number.
        direction: Which way the metric improves.
        n: Number of structures that entered.
        ci_low: Lower end of the interval in ``unit``, or None where there is none.
        ci_high: Upper end of the interval in ``unit``, or None where there is none.
        n_clusters: Number of independent clusters among these structures.
        reason: Why the value or the interval is missing, or what to know about it; None where all is well.
        design_effect: Variance of the value over what it would be if its structures were independent, None where that
            is not known.

    Raises:
        ValueError: If a number is NaN or infinite, if only one end of the interval is given, if the ends are out of
            order, if a count is negative, or if the value or the interval is missing without a reason.
    """

    name: str
    value: float | None
    unit: str
    direction: Direction
    n: int
    ci_low: float | None
    ci_high: float | None
    n_clusters: int
    reason: str | None = None
    design_effect: float | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be told apart from a good number later."""
        for field in ("value", "ci_low", "ci_high", "design_effect"):
            number = getattr(self, field)
            if number is not None and not math.isfinite(number):
                msg = f"{self.name}: {field} is {number}; a number that could not be computed is None with a reason"
                raise ValueError(msg)
        if (self.ci_low is None) != (self.ci_high is None):
            msg = f"{self.name}: an interval has two ends, got {self.ci_low} and {self.ci_high}"
            raise ValueError(msg)
        if self.ci_low is not None and self.ci_high is not None and self.ci_low > self.ci_high:
            msg = f"{self.name}: the interval {self.ci_low} to {self.ci_high} is upside down"
            raise ValueError(msg)
        if self.n < 0 or self.n_clusters < 0:
            msg = f"{self.name}: negative count: n {self.n}, clusters {self.n_clusters}"
            raise ValueError(msg)
        if (self.value is None or self.ci_low is None) and not self.reason:
            msg = f"{self.name}: the value or its interval is missing without a reason"
            raise ValueError(msg)

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Return the fields as plain JSON types."""
        fields = asdict(self)
        fields["direction"] = self.direction.value
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> Self:
        """Rebuild a value from `to_dict`'s fields.

        Raises:
            ValueError: If the direction is unknown or the fields break the rules of the class.
            TypeError: If a field is missing or not one of the class.
        """
        plain = dict(fields)
        if "direction" in plain:
            plain["direction"] = Direction(str(plain["direction"]))
        return cls(**plain)  # type: ignore[arg-type]  # the fields of a JSON object; __post_init__ checks them


class Properties(Protocol):
    """What labels and predictions have in common; None where there is none."""

    @property
    def energy(self) -> AnyArray | None:
        """Shape (n_structures,), eV."""

    @property
    def forces(self) -> AnyArray | None:
        """Shape (n_atoms, 3), eV/Å."""

    @property
    def stress(self) -> AnyArray | None:
        """Shape (n_structures, 6), eV/Å³, Voigt xx yy zz yz xz xy."""


@dataclass(frozen=True, slots=True)
class PropertyArrays:
    """Plain holder of `Properties`, for callers that have bare arrays.

    Attributes:
        energy: Shape (n_structures,), eV.
        forces: Shape (n_atoms, 3), eV/Å.
        stress: Shape (n_structures, 6), eV/Å³, Voigt xx yy zz yz xz xy.
    """

    energy: AnyArray | None = None
    forces: AnyArray | None = None
    stress: AnyArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StructureErrors:
    """Error sums per structure; every array has shape (n_structures,), NaN where there is nothing to compare.

    Attributes:
        n_atoms: Number of atoms.
        n_free: Number of atoms whose forces count.
        energy_error: Predicted minus reference energy, eV.
        force_abs_sum: Σ|ΔF| over the components of free atoms, eV/Å.
        force_sq_sum: ΣΔF² over the components of free atoms, (eV/Å)².
        force_max: max |ΔF| over the components of free atoms, eV/Å; NaN without free atoms.
        force_cosine_sum: Σ over free atoms of the cosine between predicted and reference force.
        force_magnitude_sum: Σ over free atoms of | |F_pred| - |F_ref| |, eV/Å.
        stress_abs_sum: Σ|Δσ| over the six components, eV/Å³.
        stress_n: Number of stress components compared, 6 or 0.
        adsorption_energy_error: Predicted minus reference adsorption energy, eV, where the caller formed one (with
            `dataclasses.replace`); None where nobody did.
        relative_energy_error: `energy_error` minus its mean over the structures of the same cluster and composition,
            eV, where the caller formed it; NaN for a structure without another one. None where nobody did.

    Raises:
        ValueError: If the columns differ in length.
    """

    n_atoms: IntArray
    n_free: IntArray
    energy_error: FloatArray
    force_abs_sum: FloatArray
    force_sq_sum: FloatArray
    force_max: FloatArray
    force_cosine_sum: FloatArray
    force_magnitude_sum: FloatArray
    stress_abs_sum: FloatArray
    stress_n: IntArray
    adsorption_energy_error: FloatArray | None = None
    relative_energy_error: FloatArray | None = None

    def __post_init__(self) -> None:
        """Refuse columns that cannot belong together."""
        for name in self.__dataclass_fields__:
            column = getattr(self, name)
            if column is not None and column.shape != self.n_atoms.shape:
                msg = f"column {name} has shape {column.shape}, n_atoms has {self.n_atoms.shape}"
                raise ValueError(msg)
