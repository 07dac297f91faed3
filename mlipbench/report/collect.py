"""Finding runs and reference rows below directories."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ResultsError
from mlipbench.status import Source, Status
from mlipbench.store.records import Manifest, MetricRecord, read_manifest, read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlipbench.report.rows import Row

MANIFEST: Final = "manifest.json"
METRICS: Final = "metrics.json"
_PUBLISHED: Final = "published"
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
        citation: Where published numbers stand.
    """

    model: str
    variant: str
    seed: int | None
    source: Source
    metrics: tuple[MetricRecord, ...]
    run_id: str = ""
    directory: Path | None = None
    manifest: Manifest | None = None
    citation: str = ""


def collect(paths: Iterable[Path]) -> tuple[RunRecord, ...]:
    """Read the finished runs and the published rows below some paths.

    Of runs of equal plan, model, variant and seed only the newest is taken. Runs that are not finished are left out.

    Args:
        paths: Run directories, directories above such, directories named ``published``, or CSV files of published rows.

    Raises:
        ResultsError: A path does not exist, or a file is damaged.
    """
    newest: dict[tuple[str, str, str, int], RunRecord] = {}
    files: set[Path] = set()
    for path in paths:
        if path.suffix == ".csv" and path.is_file():
            files.add(path.resolve())
            continue
        if not path.is_dir():
            raise ResultsError("there is no such directory", file=path, remedy="give a run or a directory above runs")
        files.update(found.resolve() for found in _published_files(path))
        for directory in _run_directories(path):
            run = read_run(directory)
            if run is None or run.manifest is None:
                continue
            key = (run.manifest.plan_sha256, run.model, run.variant, run.manifest.seed)
            if key not in newest or _age(newest[key]) < _age(run):
                newest[key] = run
    measured = sorted(newest.values(), key=lambda run: (run.model, run.variant, run.seed, run.run_id))
    return (*measured, *_read_published(files))


def read_run(directory: Path) -> RunRecord | None:
    """Read one run directory; None where the run is not finished.

    Raises:
        ResultsError: A file is missing or damaged.
    """
    manifest = read_manifest(directory / MANIFEST)
    metrics = directory / METRICS
    if manifest.status is Status.RUNNING or manifest.finished is None or not metrics.exists():
        return None
    return RunRecord(
        model=manifest.model.name,
        variant=manifest.variant.name,
        seed=manifest.seed,
        source=Source.MEASURED,
        metrics=tuple(read_metrics(metrics)),
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
            yield from sorted(folder.glob("*.csv"))


def _read_published(files: Iterable[Path]) -> tuple[RunRecord, ...]:
    from mlipbench.report.rows import read_published

    groups: dict[tuple[str, str, int, str], list[Row]] = {}
    for row in (row for file in sorted(files) for row in read_published(file)):
        seed = -1 if row.seed is None else row.seed
        groups.setdefault((row.model, row.variant, seed, row.citation), []).append(row)
    return tuple(
        RunRecord(
            model=rows[0].model,
            variant=rows[0].variant,
            seed=rows[0].seed,
            source=Source.PUBLISHED,
            metrics=tuple(row.record for row in rows),
            citation=rows[0].citation,
        )
        for _, rows in sorted(groups.items())
    )


def _age(run: RunRecord) -> tuple[str, str]:
    started = "" if run.manifest is None else run.manifest.started
    return started, run.run_id
