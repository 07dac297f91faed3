"""Finding runs and reference rows below directories."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ConfigError, MlipbenchError, ResultsError
from mlipbench.status import Source, Status
from mlipbench.store.records import Manifest, MetricRecord, read_manifest, read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlipbench.comparison.published import Reference

MANIFEST: Final = "manifest.json"
METRICS: Final = "metrics.json"
_PUBLISHED: Final = "published"
_YAML: Final = ".yaml"
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class RunRecord:
    """All numbers of one run, or of one model from one publication.

    Attributes:
        model: Name of the model.
        variant: Name of the settings it was run with.
        seed: Seed of the run; None for published numbers.
        source: Whether the numbers were measured, averaged or published.
        metrics: The numbers.
        run_id: Name of the run; empty for published numbers.
        directory: The run's directory; None for published numbers.
        manifest: The run's manifest; None for published numbers.
        reference: Where published numbers stand; None for measured ones.
    """

    model: str
    variant: str
    seed: int | None
    source: Source
    metrics: tuple[MetricRecord, ...]
    run_id: str = ""
    directory: Path | None = None
    manifest: Manifest | None = None
    reference: Reference | None = None


def collect(paths: Iterable[Path], problems: list[MlipbenchError] | None = None) -> tuple[RunRecord, ...]:
    """Read the finished runs and the published rows below some paths; their order does not matter.

    Of runs of equal plan, model, variant and seed only the newest is taken. Runs that are not finished are left out.

    Args:
        paths: Run directories, directories above such, directories named ``published``, or YAML files of published
            rows.
        problems: Takes what is wrong with runs and files, which are left out then; without it the first is raised.

    Raises:
        ResultsError: A path does not exist, a file of a run is damaged, or two runs have one id.
        ConfigError: A file of published rows is invalid.
    """
    directories: dict[Path, Path] = {}
    files: dict[Path, Path] = {}
    for path in paths:
        if path.suffix == _YAML and path.is_file():
            files.setdefault(path.resolve(), path)
            continue
        if not path.is_dir():
            raise ResultsError("there is no such directory", file=path, remedy="give a run or a directory above runs")
        for found in _published_files(path):
            files.setdefault(found.resolve(), found)
        for found in _run_directories(path):
            directories.setdefault(found.resolve(), found)
    left_out = _LeftOut(problems)
    runs = _newest(_read_runs([directories[place] for place in sorted(directories)], left_out))
    return (*runs, *_read_published([files[place] for place in sorted(files)], left_out))


def read_run(directory: Path) -> RunRecord | None:
    """Read one run directory; None where the run is not finished.

    Raises:
        ResultsError: A file is missing or damaged.
    """
    manifest = read_manifest(directory / MANIFEST)
    if manifest.status is Status.RUNNING or manifest.finished is None:
        return None
    return RunRecord(
        model=manifest.model.name,
        variant=manifest.variant.name,
        seed=manifest.seed,
        source=Source.MEASURED,
        metrics=tuple(read_metrics(directory / METRICS)),
        run_id=manifest.run_id,
        directory=directory,
        manifest=manifest,
    )


def single_run(path: Path) -> RunRecord:
    """Read the finished run that a directory is, or the only one below it.

    Args:
        path: A run directory, or a directory above exactly one finished run.

    Raises:
        ResultsError: There is no such directory, no finished run or more than one, or a file is damaged.
    """
    if not path.is_dir():
        raise ResultsError("there is no such directory", file=path, remedy="give a run, or a directory above one")
    directories = list(_run_directories(path))
    found = [run for run in map(read_run, directories) if run is not None]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(run.run_id for run in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ResultsError(f"holds {len(found)} finished runs ({names}{more})", file=path, remedy="name one of them")
    remedy = "give the command that began it again" if directories else "make one with `mlipbench run`"
    raise ResultsError("holds no finished run", file=path, remedy=remedy)


def _run_directories(top: Path) -> Iterator[Path]:
    """Yield the directories that hold a manifest, without looking inside them."""
    for folder, folders, files in os.walk(top):
        if MANIFEST in files:
            folders.clear()
            yield Path(folder)
        folders.sort()


def _published_files(top: Path) -> Iterator[Path]:
    for folder in (top, top / _PUBLISHED):
        if folder.name == _PUBLISHED:
            yield from sorted(folder.glob(f"*{_YAML}"))


class _LeftOut:
    """Takes what is wrong with one run or file, so that the others go on."""

    def __init__(self, problems: list[MlipbenchError] | None) -> None:
        """Take the list to note problems in; None raises them."""
        self._problems = problems

    def note(self, problem: MlipbenchError) -> None:
        """Note a problem.

        Raises:
            MlipbenchError: The problem, where there is no list.
        """
        if self._problems is None:
            raise problem
        self._problems.append(problem)


def _read_runs(directories: Iterable[Path], left_out: _LeftOut) -> Iterator[RunRecord]:
    """Yield the finished runs; of those of one id the first."""
    seen: dict[str, Path] = {}
    for directory in directories:
        try:
            run = read_run(directory)
        except ResultsError as error:
            left_out.note(error)
            continue
        if run is None:
            continue
        if run.run_id in seen:
            other = f"has the id of the run in {seen[run.run_id]}, which is taken"
            left_out.note(ResultsError(other, file=directory / MANIFEST, where="run_id", remedy="remove one of them"))
            continue
        seen[run.run_id] = directory
        yield run


def _newest(runs: Iterable[RunRecord]) -> list[RunRecord]:
    newest: dict[tuple[str, str, str, int | None], RunRecord] = {}
    for run in runs:
        plan = "" if run.manifest is None else run.manifest.plan_sha256
        key = (plan, run.model, run.variant, run.seed)
        if key not in newest or _age(newest[key]) < _age(run):
            newest[key] = run
    return sorted(newest.values(), key=lambda run: (run.model, run.variant, run.seed, run.run_id))


def _read_published(files: Iterable[Path], left_out: _LeftOut) -> Iterator[RunRecord]:
    """Yield the rows of publications; of those of one name the first."""
    from mlipbench.comparison.published import Reference, read_publication

    seen: dict[str, Path] = {}
    for file in files:
        try:
            found = read_publication(file)
        except MlipbenchError as error:
            left_out.note(error)
            continue
        if found.publication in seen:
            other = f"{found.publication!r} is the name of the publication in {seen[found.publication]}"
            left_out.note(ConfigError(other, file=file, where="publication", remedy="choose another"))
            continue
        seen[found.publication] = file
        for reference in (Reference(found, table, row) for table in found.tables for row in table.rows):
            model = reference.row.model or reference.row.name
            yield RunRecord(model, "", None, Source.PUBLISHED, reference.metrics, reference=reference)


def _age(run: RunRecord) -> tuple[str, str]:
    started = "" if run.manifest is None else run.manifest.started
    return started, run.run_id
