"""Which levels of two factors, such as adsorbate and material, the structures of a split have."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.children import Job, JobKind, Limits, convert_files
from mlipbench.datasets.factor_files import COLUMNS
from mlipbench.datasets.prepare import digest, locked, root_of, stamp
from mlipbench.datasets.rules import alternatives
from mlipbench.errors import DatasetError, from_os_error

if TYPE_CHECKING:
    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import AnyArray, IntArray

_SOURCE: Final = "source.json"


@dataclass(frozen=True, slots=True, eq=False)
class FactorTable:
    """Levels of two factors by system.

    Attributes:
        file: The file they are from.
        sha256: Its checksum.
        names: Shape (n_systems,), names of the systems in rising order, UTF-8.
        first: Shape (n_systems,), level of the first factor.
        second: Shape (n_systems,), level of the second.
    """

    file: Path
    sha256: str
    names: AnyArray
    first: IntArray
    second: IntArray

    def levels(self, split: Split) -> tuple[IntArray, IntArray]:
        """Return the levels of a split's structures, two arrays of shape (n_structures,).

        Raises:
            DatasetError: The file says nothing of a cluster.
        """
        wanted = np.char.encode(split.cluster_names, "utf-8")
        place = np.minimum(np.searchsorted(self.names, wanted), len(self.names) - 1)
        known = self.names[place] == wanted
        if not known.all():
            system = str(split.cluster_names[np.argmin(known)])
            raise DatasetError(
                f"says nothing of {int((~known).sum())} of the systems, the first is {system!r}", file=self.file,
                where=f"dataset {split.entry}, split {split.name}", remedy="get the file that belongs to these data",
            )  # fmt: skip
        return self.first[place][split.clusters], self.second[place][split.clusters]


def open_factors(entry: DatasetEntry, location: DataLocation, limits: Limits | None = None) -> FactorTable | None:
    """Return the levels of the two factors that an entry declares, the file converted first unless that was done.

    Args:
        entry: The dataset.
        location: Where the files and the cache are.
        limits: What a conversion may use.

    Returns:
        None where the entry declares no factors, or the file is not there.

    Raises:
        DatasetError: The file is invalid.
        PrerequisiteError: There is no data root, or the disk is full.
    """
    if entry.factors is None:
        return None
    root = root_of(entry, location)
    path = next((root / name for name in alternatives(entry.factors.file) if (root / name).is_file()), None)
    if path is None:
        return None
    described = entry.factors.model_dump(mode="json")
    source = [*stamp(path), described]
    key = hashlib.sha256(json.dumps([source[0], described]).encode()).hexdigest()[:12]
    directory = location.cache / "datasets" / entry.name / f"factors-{key}"
    if _source(directory)[:-1] != source:
        try:
            with locked(directory):
                if _source(directory)[:-1] != source:
                    _build(Job(path, path.name, directory, described, JobKind.FACTORS), source, limits or Limits())
        except OSError as error:
            raise from_os_error(error, directory) from None
    columns = {name: np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in COLUMNS}
    return FactorTable(path, _source(directory)[-1], **columns)


def _source(directory: Path) -> list[Any]:
    """Return what the columns in a folder were made of, and its checksum; nothing where they are incomplete."""
    try:
        found: list[Any] = json.loads((directory / _SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found


def _build(job: Job, source: list[Any], limits: Limits) -> None:
    work = Path(tempfile.mkdtemp(prefix=f".{job.output.name}.tmp", dir=job.output.parent))
    try:
        made = work / "columns"
        convert_files([Job(job.file, job.label, made, job.reading, job.kind)], limits)
        (made / _SOURCE).write_text(json.dumps([*source, digest(job.file)]), encoding="utf-8")
        shutil.rmtree(job.output, ignore_errors=True)
        made.rename(job.output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
