"""Whether a model can predict a split, and whether its numbers mean something there."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mlipbench.elements import format_elements
from mlipbench.metrics.values import Quantity
from mlipbench.models.interface import EnergyReference, Need, Property
from mlipbench.suite.schema import Correction, ShiftKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.models.card import ModelCard
    from mlipbench.models.interface import Capabilities
    from mlipbench.structures.columnar import Split
    from mlipbench.suite.schema import Conversion

CORRECTED_LEVEL: Final[Mapping[tuple[Correction, str], str]] = MappingProxyType(
    {
        (Correction.MP2020, "PBE/PBE+U"): "PBE/PBE+U, MP2020-corrected",
    }
)


@dataclass(frozen=True, slots=True)
class EnergyRoute:
    """How a model's energies come to be compared with the labels'.

    Attributes:
        shift: The fitted shift, or None.
        fit: Split the shift is fitted on.
        corrections: Named corrections added to the labels.
        refusal: Why the energies cannot be compared, or None.
    """

    shift: ShiftKind | None = None
    fit: str | None = None
    corrections: tuple[Correction, ...] = ()
    refusal: str | None = None

    @property
    def conversion(self) -> str | None:
        """The conversion in words, None where nothing is done."""
        words = [f"{correction.value} correction added to the labels" for correction in self.corrections]
        if self.shift is not None:
            words.append(f"per-element shift fitted on {self.fit}")
        return "; ".join(words) or None


def energy_route(
    card: ModelCard, entry: DatasetEntry, conversions: tuple[Conversion, ...], fit_split: str | None
) -> EnergyRoute:
    """Decide how energies are compared; nothing is subtracted that the suite does not name.

    Args:
        card: The model's card.
        entry: The dataset's entry.
        conversions: The suite's conversions for this dataset.
        fit_split: The split that shifts are fitted on by default.
    """
    chosen = [step for step in conversions if step.models is None or card.name in step.models]
    corrections = tuple(step.correction for step in chosen if step.correction is not None)
    level = entry.level_of_theory
    for correction in corrections:
        if (correction, level) not in CORRECTED_LEVEL:
            return EnergyRoute(refusal=f"the {correction.value} correction is not defined for labels at {level}")
        level = CORRECTED_LEVEL[correction, level]
    shifts = [step for step in chosen if step.shift is not None]
    if shifts:
        fit = shifts[-1].fit or fit_split
        if fit is None:
            return EnergyRoute(refusal="the dataset names no split to fit the energy shift on")
        return EnergyRoute(shifts[-1].shift, fit, corrections)
    refusal = _mismatch(card.declared(), entry, level, corrected=bool(corrections))
    return EnergyRoute(corrections=corrections, refusal=refusal)


def _mismatch(capabilities: Capabilities, entry: DatasetEntry, level: str, *, corrected: bool) -> str | None:
    if capabilities.energy_reference is EnergyReference.FITTED:
        return "the model is fitted to the labels as they are, and the suite corrects them" if corrected else None
    arbitrary = capabilities.energy_reference is EnergyReference.ARBITRARY  # two of these need not be the same
    if arbitrary or capabilities.energy_reference is not entry.energy_reference:
        return (
            f"the model's energies are {capabilities.energy_reference.value}, the labels' "
            f"{entry.energy_reference.value}; the suite declares no conversion"
        )
    if capabilities.level_of_theory != level:
        return (
            f"the model's energies are at {capabilities.level_of_theory or 'no level of theory of their own'}, the "
            f"labels' at {level}; the suite declares no conversion"
        )
    return None


def why_not_predictable(capabilities: Capabilities, split: Split, *, partly: bool = False) -> str | None:
    """Return why a model cannot predict a split at all, or None; `partly` is explained at `foreign_elements`."""
    return next(_obstacles(capabilities, split, partly=partly), None)


def foreign_elements(split: Split, known: frozenset[int], *, partly: bool) -> set[int]:
    """Return the elements of a split that keep a model from predicting it.

    Args:
        split: The split.
        known: Atomic numbers that the model covers.
        partly: Whether structures of other elements are left out: then none keeps it, as long as one is known.
    """
    foreign = set(split.elements) - known
    return set() if partly and foreign != set(split.elements) else foreign


def _obstacles(capabilities: Capabilities, split: Split, *, partly: bool) -> Iterator[str]:
    known = capabilities.elements
    if known is not None and (foreign := foreign_elements(split, known, partly=partly)):
        yield f"the model does not cover {format_elements(foreign)}"
    if split.has_periodic and not capabilities.pbc:
        yield "the model takes no periodic structures"
    if split.has_molecules and not capabilities.molecules:
        yield "the model takes periodic structures only"
    for need in sorted(capabilities.needs):
        if need is Need.CELL and split.has_molecules:
            yield "the model needs a cell, and the split holds molecules"
        elif need is not Need.CELL and need.value not in split.column_names:
            yield f"the model needs {need.value}, which the split does not hold"


def why_no_metric(
    definition: MetricDefinition[Any], capabilities: Capabilities, split: Split, route: EnergyRoute
) -> str | None:
    """Return why one metric of a predictable split cannot be had, or None."""
    missing = [needed for needed in Quantity if needed in definition.needs - split.column_names]
    if missing:
        holder = "structures" if missing[0] in {Quantity.TAGS, Quantity.CLUSTERS} else "labels"
        return f"the {holder} hold no {missing[0].replace('_', ' ')}"
    if Quantity.STRESS in definition.needs and Property.STRESS not in capabilities.properties:
        return "the model predicts no stress"
    return route.refusal if definition.needs_one_reference else None
