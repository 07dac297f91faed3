"""Dataset entries: what a family of files holds, declared rather than guessed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mlipbench.datasets.names import ENTRIES, entry_names
from mlipbench.datasets.rules import Closed, Indices, LeignnMdSplit, LeignnSplit, MdsimSplit, Patterns, RelativePath
from mlipbench.datasets.sources import Archive
from mlipbench.elements import parse_formula
from mlipbench.errors import ConfigError
from mlipbench.models.interface import EnergyReference
from mlipbench.units import energy_factor, forces_factor, length_factor, stress_factor
from mlipbench.yamlfile import did_you_mean, read_yaml, validate

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "GAP",
    "ClusterKind",
    "DatasetEntry",
    "Factors",
    "Gap",
    "Keys",
    "Mini",
    "References",
    "Root",
    "Sidecar",
    "SplitSpec",
    "Units",
    "entry_names",
    "load_entry",
]

MINI: Final = Path(__file__).parent / "mini"
GAP: Final = "gap"
"""What stands in place of a split's name where a number is `DatasetEntry.gap`."""


class ClusterKind(StrEnum):
    """Which structures depend on each other and are resampled together."""

    KEY = "key"  # those that share the value of `keys.cluster`
    FILE = "file"
    MOLECULE = "molecule"  # molecules with the same bonds (`mlipbench.datasets.connectivity`)
    STRUCTURE = "structure"  # each stands for itself


class Root(StrEnum):
    """Where the files of an entry are looked for."""

    PACKAGE = "package"
    DATA = "data"


def _unit(factor: Callable[[str], float]) -> AfterValidator:
    def check(unit: str) -> str:
        try:
            factor(unit)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return unit

    return AfterValidator(check)


def _formula(text: str) -> str:
    parse_formula(text)
    return text


SplitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Units(Closed):
    """Units of the files; see `mlipbench.units` for the names.

    Attributes:
        energy: Such as ``eV`` or ``kcal/mol``.
        forces: An energy over a length, such as ``kcal/mol/A``.
        length: Such as ``A`` or ``bohr``.
        stress: Such as ``eV/A^3``; needed where `Keys.stress` is given.
    """

    energy: Annotated[str, _unit(energy_factor)]
    forces: Annotated[str, _unit(forces_factor)]
    length: Annotated[str, _unit(length_factor)]
    stress: Annotated[str, _unit(stress_factor)] | None = None


class Keys(Closed):
    """Names under which the files hold each quantity, exactly as they are spelt there.

    Attributes:
        energy: Energy of a structure; None where the files hold none, or hide it as public test sets do.
        reference_energy: Energy that is subtracted from `energy` and `relaxed_energy`, which leaves adsorption
            energies; None where these are meant as they are.
        relaxed_energy: Energy of the structure that a relaxation from this one ended in.
        relaxed_positions: Positions in that structure.
        forces: Forces, None where the files hold none.
        stress: Stress, 3x3 or six components xx yy zz yz xz xy in ASE's sign.
        id: One or more keys whose values, joined by ``_``, name a structure; None names it by file and frame.
        cluster: Key whose value is shared by dependent structures.
        charge: Total charge.
        spin: Spin multiplicity 2S + 1.
        numbers: Atomic numbers (``.npz``, ``.npy`` and ``.lmdb`` only; the other formats say it themselves).
        positions: Positions (likewise).
        cell: Lattice vectors as rows (likewise); None where the files hold none. Two names are those of lengths and of
            angles in degrees (``.npz`` and ``.npy`` only).
        pbc: Periodicity (likewise); None where the files hold none. In ``.lmdb`` files None stands for OC20's name in
            all four cases.
    """

    energy: str | None
    forces: str | None
    stress: str | None = None
    id: str | tuple[str, ...] | None = None
    cluster: str | None = None
    charge: str | None = None
    spin: str | None = None
    numbers: str | None = None
    positions: str | None = None
    cell: str | tuple[str, str] | None = None
    pbc: str | None = None
    reference_energy: str | None = None
    relaxed_energy: str | None = None
    relaxed_positions: str | None = None


class Sidecar(Closed):
    """Text files beside extended XYZ files, one line a frame, with values between commas; other formats have none.

    Attributes:
        columns: Names of the values of a line, for use in `Keys`.
        prefixes: Text that the values of a column begin with and that is left out, by the name of the column.
        ending: What stands in place of ``.extxyz`` or ``.xyz`` in the name; ``.xz`` may follow.
    """

    columns: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    prefixes: dict[str, str] = Field(default_factory=dict)
    ending: Annotated[str, Field(pattern=r"^(\.[A-Za-z0-9_-]+)+$")] = ".txt"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("`columns` names one column twice")
        for name in self.prefixes:
            if name not in self.columns:
                raise ValueError(f"`prefixes`: there is no column {name!r}; {did_you_mean(name, self.columns)}")
        return self


class SplitSpec(Closed):
    """Which structures make up a split.

    Attributes:
        files: Glob patterns below the root; matches are read in natural (number-aware) order, pattern by pattern. Where
            files have several names, ``|`` is between them, and the first that is there is taken.
        indices: Published numbers of the structures to take; `shuffle_seed` and `slice` choose among these.
        mdsim: MDSim's own way to cut the structures of all files; nothing else then chooses.
        leignn: LEIGNN's own way, likewise.
        leignn_md: LEIGNN's own way with its molecular dynamics, likewise.
        shuffle_seed: Seed of a permutation of the structures of all files before `slice` is taken.
        order: ``id`` takes `slice` in the order of the whole numbers that `Keys.id` names, for files that are out of
            order and say where in a trajectory each structure was.
        slice: Start, stop and step, as in Python. Splits with one seed and slices that do not overlap are disjoint.
            The structures taken keep the order of the files.
        title: Head of its columns; its name where it is left out.
        keys: Used in place of the entry's where this split comes in another container.
        drawn_from: As of `DatasetEntry`, for this split alone.
        note: Anything a reader of results should know.
    """

    files: Annotated[tuple[Patterns, ...], Field(min_length=1)]
    indices: Indices | None = None
    mdsim: MdsimSplit | None = None
    leignn: LeignnSplit | None = None
    leignn_md: LeignnMdSplit | None = None
    shuffle_seed: Annotated[int, Field(ge=0)] | None = None
    order: Literal["id"] | None = None
    slice: tuple[int | None, int | None, int | None] | None = None
    title: str | None = None
    keys: Keys | None = None
    drawn_from: tuple[str, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        others = (self.indices, self.shuffle_seed, self.slice)
        names = "mdsim, leignn and leignn_md"
        if len(self.drawn) > 1 or (self.drawn and others != (None, None, None)):
            raise ValueError(f"{names} leave nothing for each other, indices, shuffle_seed and slice to choose")
        if self.order is not None and (self.drawn or self.slice is None or others[:2] != (None, None)):
            raise ValueError(f"order is for a slice, and does not go with indices, shuffle_seed, {names}")
        return self

    @property
    def drawn(self) -> list[MdsimSplit | LeignnSplit | LeignnMdSplit]:
        """The rules of others that the structures are drawn by; one at most."""
        return [rule for rule in (self.mdsim, self.leignn, self.leignn_md) if rule is not None]


class References(Closed):
    """Where the reference energies of adsorption energies come from.

    Attributes:
        split: The split that holds clean slabs and gas references.
        map: JSON file below the root: ``{"systems": {cluster: {id in that split: coefficient}}}``.
    """

    split: str
    map: RelativePath


class Factors(Closed):
    """Two factors that group the clusters, for intervals that resample both.

    They stand in a pickled dictionary of dictionaries, which is decoded like any foreign data: it may hold plain values
    alone.

    Attributes:
        file: Path below the root; ``|`` is between alternatives. Where it is not there, there are no such intervals.
        prefix: Text that names in the file begin with, and names of clusters do not.
        fields: The fields that hold the levels of the first and the second factor.
        words: What the factors are, for tables.
    """

    file: Patterns
    prefix: str = ""
    fields: tuple[str, str]
    words: Annotated[str, Field(min_length=1)]


class Gap(Closed):
    """How much worse a model is on splits out of the training domain: their mean minus another split.

    Attributes:
        base: The split inside the domain.
        others: The splits outside.
        title: Head of its columns.
    """

    base: str
    others: Annotated[tuple[str, ...], Field(min_length=1)]
    title: str = GAP

    @property
    def splits(self) -> tuple[str, ...]:
        """All of them."""
        return self.base, *self.others


class Mini(Closed):
    """The embedded dataset that stands in for another one, for tests and first contact.

    Attributes:
        dataset: Its name.
        splits: Its splits, by the name of the split that each stands in for.
    """

    dataset: str
    splits: Annotated[dict[str, str], Field(min_length=1)]


class DatasetEntry(Closed):
    """What a dataset is and how its files are read.

    Attributes:
        name: Unique name; that of the YAML file.
        title: One line for tables.
        description: What the data are, their quirks included.
        licence: Licence of the data.
        citation: What to cite.
        url: Where the data come from.
        level_of_theory: Method of the labels; compared with that of models.
        energy_reference: What the energies are measured against.
        units: Units of the files.
        keys: Names of the quantities in the files.
        sidecar: What stands in the text files beside extended XYZ files.
        pbc: ``file``, or the truth where the files lie.
        formula: The atoms of every structure of the files, such as ``C9H8O4``; None where they differ, or nobody knows.
        free_atoms_only: Whether force metrics count free atoms only, as OC20's do.
        cluster: Which structures depend on each other.
        frame_interval_fs: Time in fs between consecutive frames of a file, where every file holds them in order of time
            and equally far apart; None where one does not, or nobody says.
        root: Where the files are looked for.
        splits: The splits by name.
        sources: Where the files are published, for `mlipbench data fetch`.
        fit_split: Split that fitted models and energy shifts are fitted on.
        references: Source of reference energies, where the files hold them.
        factors: Two factors that group the clusters.
        membership: What is known about the splits' relation to published ones.
        drawn_from: Training sets that these structures belong to, by the names that cards give in `training_data`.
        perhaps_from: Training sets that these structures may belong to, which nobody knows.
        mini: The embedded dataset that stands in for this one with ``--data mini``.
        gap: The splits whose difference is a number of its own, where a suite evaluates all of them.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    title: str
    description: str = ""
    licence: str
    citation: str
    url: str | None = None
    level_of_theory: str
    energy_reference: EnergyReference
    units: Units
    keys: Keys
    sidecar: Sidecar | None = None
    pbc: Literal["file"] | tuple[bool, bool, bool]
    formula: Annotated[str, AfterValidator(_formula)] | None = None
    free_atoms_only: bool = False
    cluster: ClusterKind
    frame_interval_fs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    root: Root
    splits: Annotated[dict[SplitName, SplitSpec], Field(min_length=1)]
    sources: tuple[Archive, ...] = ()
    fit_split: str | None = None
    references: References | None = None
    factors: Factors | None = None
    membership: str = ""
    drawn_from: tuple[str, ...] = ()
    perhaps_from: tuple[str, ...] = ()
    mini: Mini | None = None
    gap: Gap | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        named = [self.fit_split, self.references.split if self.references else None]
        named += [split for archive in self.sources for split in archive.splits]
        named += [*(self.mini.splits if self.mini else ()), *(self.gap.splits if self.gap else ())]
        if GAP in self.splits:
            raise ValueError(f"no split can be named {GAP!r}")
        for name in named:
            if name is not None and name not in self.splits:
                raise ValueError(f"there is no split {name!r}; {did_you_mean(name, self.splits)}")
        return self

    @model_validator(mode="after")
    def _splits_fit(self) -> Self:
        if self.factors is not None and self.cluster is not ClusterKind.KEY:
            raise ValueError("`factors` needs `cluster: key`")
        for name in (self.fit_split, self.references.split if self.references else None):
            if name is not None and (self.splits[name].keys or self.keys).energy is None:
                raise ValueError(f"split {name!r}: what is fitted on or referred to needs `keys.energy`")
        for name, spec in self.splits.items():
            keys = spec.keys or self.keys
            if self.cluster is ClusterKind.KEY and keys.cluster is None:
                raise ValueError(f"split {name!r}: `cluster: key` needs `keys.cluster`")
            if keys.stress is not None and self.units.stress is None:
                raise ValueError(f"split {name!r}: `keys.stress` needs `units.stress`")
            if keys.reference_energy is not None and self.energy_reference is not EnergyReference.ADSORPTION:
                raise ValueError(f"split {name!r}: `keys.reference_energy` needs `energy_reference: adsorption`")
            if spec.slice is not None and spec.slice[2] == 0:
                raise ValueError(f"split {name!r}: the step of `slice` is zero")
            if spec.order is not None and not isinstance(keys.id, str):
                raise ValueError(f"split {name!r}: `order: id` needs one key as `keys.id`")
        return self

    def split(self, name: str) -> SplitSpec:
        """Return a split by name.

        Raises:
            ConfigError: There is no such split; close matches are listed.
        """
        if name not in self.splits:
            raise ConfigError(f"dataset {self.name!r} has no split {name!r}", remedy=did_you_mean(name, self.splits))
        return self.splits[name]


def load_entry(name_or_path: str | Path, base: Path | None = None) -> DatasetEntry:
    """Return a shipped entry by name, or the entry in a YAML file.

    Args:
        name_or_path: A name from `entry_names`, or a path (something that ends in ``.yaml`` or ``.yml``).
        base: Folder that a relative path starts from; the working directory where it is None.

    Raises:
        ConfigError: The name is unknown or the file is not a valid entry.
        PrerequisiteError: The file cannot be read.
    """
    if str(name_or_path).endswith((".yaml", ".yml")):
        path = (base or Path()) / name_or_path
    else:
        names = entry_names()
        if str(name_or_path) not in names:
            remedy = did_you_mean(str(name_or_path), names)
            raise ConfigError(f"unknown dataset {str(name_or_path)!r}", remedy=remedy)
        path = ENTRIES / f"{name_or_path}.yaml"
    return validate(DatasetEntry, read_yaml(path), path)
