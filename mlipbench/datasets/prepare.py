"""From an entry to columns: find the files, use the cached columns where they are current, convert them where not."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.children import Job, Limits, convert_files
from mlipbench.datasets.entry import MINI, DatasetEntry, Root, SplitSpec
from mlipbench.datasets.readers import Format, file_format
from mlipbench.datasets.records import Reading
from mlipbench.datasets.rules import alternatives
from mlipbench.datasets.selection import selection
from mlipbench.datasets.sidecar import sidecar_of
from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.errors import ConfigError, DatasetError, PrerequisiteError, from_os_error
from mlipbench.structures.columnar import ATOM_LABELS, LABELS, Labels, Split, read_meta
from mlipbench.structures.duplicates import repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import IntArray

CONVERTER: Final = 1  # raised whenever the same file would give other columns


@dataclass(frozen=True, slots=True)
class DataLocation:
    """Where data lie on this machine.

    Attributes:
        data_root: Folder below which entries with ``root: data`` find their files; None where there is none.
        cache: Folder for converted columns.
    """

    data_root: Path | None
    cache: Path


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        entry: Name of the entry.
        split: Name of the split.
        files: The source files.
        n_structures: Number of structures.
        n_atoms: Number of atoms.
        content_hash: Identity of the data.
        n_repeated: Structures that stand in the split more than once (`mlipbench.structures.duplicates`).
        problems: One line a problem; empty where all is well.
    """

    entry: str
    split: str
    files: tuple[Path, ...]
    n_structures: int
    n_atoms: int
    content_hash: str
    n_repeated: int
    problems: tuple[str, ...]


def find_files(entry: DatasetEntry, split: str, location: DataLocation) -> list[Path]:
    """Return the files of a split in the order they are read: pattern by pattern, each in natural order.

    A pattern that names a folder stands for the data files in it.

    Raises:
        ConfigError: There is no such split.
        PrerequisiteError: There is no data root, or a pattern matches nothing.
    """
    spec = entry.split(split)
    root = root_of(entry, location)
    files: dict[Path, None] = {}
    for patterns in spec.files:
        found = _matches(root, patterns)
        if not found:
            raise _missing(entry, split, root / alternatives(patterns)[0])
        files |= dict.fromkeys(sorted(found, key=lambda path: natural_key(path.relative_to(root).as_posix())))
    return list(files)


def _matches(root: Path, patterns: str) -> list[Path]:
    """Return what the first of some patterns that matches anything does match; data files stand for their folder."""
    for pattern in alternatives(patterns):
        found = [path for match in root.glob(pattern) for path in (_data_files(match) if match.is_dir() else [match])]
        if found:
            return found
    return []


def _missing(entry: DatasetEntry, split: str, path: Path) -> PrerequisiteError:
    remedy = "the installation is incomplete" if entry.root is Root.PACKAGE else _ROOT_REMEDY
    if any(archive.serves(split) for archive in entry.sources):
        remedy = f"give `mlipbench data fetch {entry.name}:{split}`, or {_ROOT_REMEDY}"
    return PrerequisiteError("no such file", file=path, where=f"dataset {entry.name}, split {split}", remedy=remedy)


def _index_file(entry: DatasetEntry, split: str, root: Path) -> Path | None:
    """Return the file with the numbers of a split's structures, None where there is none.

    Raises:
        PrerequisiteError: It is missing.
    """
    indices = entry.split(split).indices
    if indices is None:
        return None
    for name in alternatives(indices.file):
        if (root / name).is_file():
            return root / name
    raise _missing(entry, split, root / alternatives(indices.file)[0])


def root_of(entry: DatasetEntry, location: DataLocation) -> Path:
    """Return the folder that the patterns of an entry start from.

    Raises:
        PrerequisiteError: The entry needs a data root and there is none.
    """
    if entry.root is Root.PACKAGE:
        return MINI
    if location.data_root is None:
        fetch = f"give `mlipbench data fetch {entry.name}`, or " if entry.sources else "give "
        raise PrerequisiteError(
            f"dataset {entry.name!r} needs files and no data root is given",
            remedy=f"{fetch}the folder that holds them with --data-root or MLIPBENCH_DATA",
        )
    return location.data_root


def open_split(
    entry: DatasetEntry,
    split: str,
    location: DataLocation,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits | None = None,
) -> Split:
    """Open a split, converting its files first unless the cached columns are current.

    They are current while the files have the same paths, sizes and modification times and the entry reads them the
    same way. Several processes may ask for one split at once; one converts, the others wait.

    Args:
        entry: The dataset.
        split: Name of the split.
        location: Where the files and the cache are.
        progress: Called with the number of files converted and the number of all.
        limits: What a conversion may use.

    Raises:
        ConfigError: There is no such split, or its slice selects nothing.
        DatasetError: A file is invalid or does not hold what the entry declares.
        PrerequisiteError: A file, a package or disk space is missing.
    """
    files = find_files(entry, split, location)
    indices = _index_file(entry, split, root_of(entry, location))
    source = _source(entry, split, files, indices)
    directory = _directory(entry, split, location, [*files, indices] if indices else files)
    cached = _cached(directory, source, entry.name, split)
    if cached is not None:
        return cached
    try:
        with locked(directory):
            cached = _cached(directory, source, entry.name, split)
            if cached is None:
                build = _Build(source, files, indices, root_of(entry, location), limits, progress)
                _build(entry, split, directory, build)
    except OSError as error:
        raise from_os_error(error, directory) from None
    return cached or Split(directory, entry.name, split)


def is_prepared(entry: DatasetEntry, split: str, location: DataLocation) -> bool:
    """Return whether `open_split` would find current columns, without converting anything.

    Raises:
        ConfigError: There is no such split.
        PrerequisiteError: A file is missing.
    """
    files = find_files(entry, split, location)
    indices = _index_file(entry, split, root_of(entry, location))
    directory = _directory(entry, split, location, [*files, indices] if indices else files)
    return _cached(directory, _source(entry, split, files, indices), entry.name, split) is not None


def verify(entry: DatasetEntry, split: str, location: DataLocation) -> VerifyReport:
    """Open a split (converting it where needed) and hash its columns and its source files again.

    This finds damage that sizes and modification times do not show, and structures that stand there more than once.

    Raises:
        ConfigError: There is no such split.
        DatasetError: A file is invalid.
        PrerequisiteError: A file is missing.
    """
    files = find_files(entry, split, location)
    opened = open_split(entry, split, location)
    recorded = read_meta(opened.directory)["source"]["sha256"]
    remedy = f"delete {opened.directory}, it is made again"
    sources = _with_sidecars(entry, files)
    changed = [path for path, known in zip(sources, recorded, strict=True) if digest(path) != known]
    problems = [f"{path}: differs from the file that was converted; {remedy} from this one" for path in changed]
    problems += [f"{opened.directory}: {column}: damaged; {remedy}" for column in opened.damaged_columns()]
    return VerifyReport(
        entry=entry.name,
        split=split,
        files=tuple(files),
        n_structures=opened.n_structures,
        n_atoms=opened.n_atoms,
        content_hash=opened.content_hash,
        n_repeated=int(repeated(opened).sum()),
        problems=tuple(problems),
    )


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts ``10.xyz`` after ``9.xyz``."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part) for part in parts]


def reading_of(entry: DatasetEntry, split: str) -> Reading:
    """Return what the converter must know of an entry to read a split.

    Raises:
        ConfigError: There is no such split.
    """
    keys = entry.split(split).keys or entry.keys
    pbc = None if entry.pbc == "file" else entry.pbc
    sidecar = entry.sidecar.model_dump() if entry.sidecar else None
    return Reading(entry.units.model_dump(), keys.model_dump(), pbc, str(entry.cluster), sidecar)


_ROOT_REMEDY: Final = "put the file there, or give its folder with --data-root or MLIPBENCH_DATA"


@dataclass(frozen=True, slots=True)
class _Build:
    source: dict[str, Any]
    files: list[Path]
    indices: Path | None
    root: Path
    limits: Limits | None
    progress: Callable[[int, int], None] | None


def _data_files(folder: Path) -> list[Path]:
    endings = tuple(str(known) for known in Format)
    return [path for path in folder.iterdir() if path.is_file() and path.name.endswith(endings)]


def _source(entry: DatasetEntry, split: str, files: Sequence[Path], indices: Path | None) -> dict[str, Any]:
    """Return what the cached columns of a split depend on, as it is after a round trip through JSON."""
    spec = entry.split(split)
    source = {
        "converter": CONVERTER,
        "reading": reading_of(entry, split).to_json(),
        "selection": _choice(spec),
        "files": [stamp(path) for path in _with_sidecars(entry, files)],
        **({} if indices is None else {"indices": [*stamp(indices), spec.indices.first if spec.indices else 0]}),
        **({} if entry.formula is None else {"formula": entry.formula}),  # checked columns serve entries without one
    }
    restored: dict[str, Any] = json.loads(json.dumps(source))
    return restored


def _choice(spec: SplitSpec) -> list[Any]:
    rules = [rule.model_dump() for rule in spec.drawn]
    return [spec.shuffle_seed, spec.slice, *rules, *([spec.order] if spec.order else [])]


def stamp(path: Path) -> list[Any]:
    """Return what tells that a file is still the same: its path, size and time of modification."""
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _with_sidecars(entry: DatasetEntry, files: Sequence[Path]) -> list[Path]:
    """Return the data files, each followed by its sidecar where it has one."""
    sidecar = entry.sidecar.model_dump() if entry.sidecar else None
    pairs = [(path, sidecar_of(path, sidecar)) for path in files]
    return [path for pair in pairs for path in pair if path is not None]


def digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _directory(entry: DatasetEntry, split: str, location: DataLocation, files: Sequence[Path]) -> Path:
    parts = [reading_of(entry, split).to_json(), *_choice(entry.split(split)), [str(path.resolve()) for path in files]]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    return location.cache / "datasets" / entry.name / f"{split}-{key}"


def _cached(directory: Path, source: dict[str, Any], entry: str, split: str) -> Split | None:
    try:
        if not source.items() <= read_meta(directory)["source"].items():
            return None
        return Split(directory, entry, split)
    except (DatasetError, KeyError):
        return None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time build a folder; the lock ends with the process."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(entry: DatasetEntry, split: str, directory: Path, build: _Build) -> None:
    prefix = f".{directory.name}.tmp"
    for stale in directory.parent.glob(f"{prefix}*"):  # of a process that died; the lock is ours
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
    try:
        reading = replace(reading_of(entry, split), formula=entry.formula).to_json()
        jobs = [
            Job(path, _label(path, build.root), work / f"shard{number}", reading)
            for number, path in enumerate(build.files)
        ]
        convert_files(jobs, build.limits or Limits(), build.progress)
        source = build.source | {"sha256": [digest(Path(path)) for path, _, _ in build.source["files"]]}
        with ColumnarWriter(work / "split", source) as writer:
            shards = [Split(job.output) for job in jobs]
            chosen = _selected(shards, entry.split(split), build)
            _merge(shards, chosen, split, writer)
        _check_ids(Split(work / "split"), entry.name, split)
        if directory.exists():
            directory.rename(work / "replaced")
        (work / "split").rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _selected(shards: Sequence[Split], spec: SplitSpec, build: _Build) -> IntArray:
    ids = np.concatenate([shard.ids for shard in shards]) if spec.order else None
    try:
        return selection(sum(len(shard) for shard in shards), spec, build.indices, ids)
    except DatasetError as error:
        error.file = error.file or build.files[0]
        raise


def _label(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix().removesuffix(file_format(path))


def _merge(shards: Sequence[Split], wanted: IntArray, name: str, writer: ColumnarWriter) -> None:
    if not wanted.size:
        raise ConfigError("the slice selects no structure", where=f"splits.{name}.slice")
    base = 0
    for shard in shards:
        clusters = shard.cluster_names[shard.clusters] if shard.has_cluster_names else None
        for start, stop in shard.chunks():
            first, last = np.searchsorted(wanted, [base + start, base + stop])
            chosen = wanted[first:last] - base
            if chosen.size:
                structures = shard.structures(start, stop)
                labels = _take(shard.labels(start, stop), structures, chosen - start)
                names = None if clusters is None else clusters[chosen]
                writer.append(structures.select(chosen - start), labels, names)
        base += len(shard)


def _take(labels: Labels, structures: StructureBatch, chosen: IntArray) -> Labels:
    wanted = np.zeros(len(structures), dtype=np.bool_)
    wanted[chosen] = True
    atoms = np.repeat(wanted, structures.counts)
    given = {name: getattr(labels, name) for name in LABELS}
    rows = {name: atoms if name in ATOM_LABELS else chosen for name in LABELS}
    return Labels(**{name: column[rows[name]] for name, column in given.items() if column is not None})


def _check_ids(opened: Split, entry: str, split: str) -> None:
    ids, counts = np.unique(opened.ids, return_counts=True)
    if len(ids) < len(opened):
        repeated = str(ids[np.argmax(counts)])
        remedy = "name keys in `keys.id` that tell structures apart, or none"
        raise DatasetError(
            f"two structures are named {repeated!r}", where=f"dataset {entry}, split {split}", remedy=remedy
        )
