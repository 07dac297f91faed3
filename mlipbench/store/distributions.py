"""What plots show of a split beside its scores, so that they need neither predictions nor trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, FiniteFloat, NonNegativeInt, model_validator

from mlipbench.store.records import SCHEMA_VERSION, Record, read_record

if TYPE_CHECKING:
    from pathlib import Path


class ForceDensityRecord(Record):
    """Predicted force components against those of the reference, as counts; see `mlipbench.metrics.density`.

    Attributes:
        limit: eV/Å, end of the range on either side.
        linear: eV/Å, size above which bins grow with the force.
        bins: Bins of either axis, of equal width in ``sign(F) ln(1 + |F|/linear)``.
        cells: Pairs of bins that hold components: bin of the reference times `bins`, plus bin of the prediction.
        counts: Components in each of these.
        reference_beyond: Components whose reference is beyond the range.
        predicted_beyond: Components whose prediction is beyond the range, and the reference is not.
    """

    limit: float = Field(gt=0, allow_inf_nan=False)
    linear: float = Field(gt=0, allow_inf_nan=False)
    bins: int = Field(gt=0)
    cells: list[NonNegativeInt]
    counts: list[NonNegativeInt]
    reference_beyond: NonNegativeInt
    predicted_beyond: NonNegativeInt

    @model_validator(mode="after")
    def _one_count_a_cell(self) -> Self:
        if len(self.cells) != len(self.counts) or max(self.cells, default=0) >= self.bins**2:
            raise ValueError("cells and counts do not fit each other or the number of bins")
        return self


class PairDistributionRecord(Record):
    """A distribution of distances in simulations and in the reference trajectory, in bins of equal width.

    Attributes:
        pairs: ``all`` atoms, or two elements.
        distribution: ``rdf``, ``pair_rdf`` or ``distances``, as the task names it; normalised as for `rdf_mae`.
        limit: Å, upper edge of the last bin; the first begins at 0.
        n_replicas: Replicas that have one.
        mean: Mean over these of the curve before the collapse, one value a bin.
        low: Lowest of them in each bin.
        high: Highest of them in each bin.
        reference: The curve of the reference trajectory.
    """

    pairs: str
    distribution: str
    limit: float = Field(gt=0, allow_inf_nan=False)
    n_replicas: int = Field(gt=0)
    mean: list[FiniteFloat]
    low: list[FiniteFloat]
    high: list[FiniteFloat]
    reference: list[FiniteFloat]

    @model_validator(mode="after")
    def _one_value_a_bin(self) -> Self:
        if len({len(curve) for curve in (self.mean, self.low, self.high, self.reference)}) != 1 or not self.mean:
            raise ValueError("the curves have no bins, or unlike numbers of them")
        return self


class DistributionsRecord(Record):
    """What plots show of a split beside its scores.

    Attributes:
        forces: Predicted forces against those of the reference; None where there are none.
        pairs: Distributions of distances in simulations.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    forces: ForceDensityRecord | None = None
    pairs: list[PairDistributionRecord] = Field(default_factory=list)


def read_distributions(path: Path) -> DistributionsRecord:
    """Read what plots show of a split beside its scores.

    Raises:
        ResultsError: The file is missing, damaged or of another schema version.
    """
    return read_record(path, DistributionsRecord, "rebuild it with `mlipbench score`")
