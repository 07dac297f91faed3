"""Baselines: finished runs in one text file that can be reviewed, kept in a repository, and compared with."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from mlipbench.comparison.collect import RunRecord, read_run
from mlipbench.errors import ConfigError, NothingSelectedError, PrerequisiteError, ResultsError
from mlipbench.gate.findings import run_title
from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.status import Task
from mlipbench.store.files import write_atomically
from mlipbench.store.records import SCHEMA_VERSION, Manifest, MetricRecord, Record, read_record
from mlipbench.store.rundir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SAVE: Final = "save it anew with `mlipbench gate --save`"
_SCORE: Final = "rebuild them with `mlipbench score`"


class ScoreTable(Record):
    """The scores of one split.

    Attributes:
        task: Name of the task.
        dataset: Name of the dataset.
        split: Name of the split.
        types: Type of each column, by Arrow's name of it.
        columns: Values of each column; null where there is none.
    """

    task: str
    dataset: str
    split: str
    types: dict[str, Literal["int64", "double", "bool", "string"]]
    columns: dict[str, list[int | float | bool | str | None]]


class BaselineRun(Record):
    """One run.

    Attributes:
        manifest: Its manifest.
        metrics: Its numbers.
        scores: Its scores per structure.
    """

    manifest: dict[str, Any]
    metrics: list[dict[str, Any]]
    scores: list[ScoreTable]


class BaselineFile(Record):
    """Contents of a baseline.

    Attributes:
        sha256: Of `runs`, so that an edited file is recognised.
        runs: The runs.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    sha256: str
    runs: list[BaselineRun] = Field(min_length=1)


def save(runs: Sequence[RunRecord], path: Path) -> None:
    """Write runs as a baseline.

    Args:
        runs: Finished runs of one suite.
        path: The file.

    Raises:
        NothingSelectedError: There is no run, or none has a number.
        ConfigError: The runs are of several suites, or two of one model, variant and seed.
        ResultsError: Scores are missing or damaged.
        MlipbenchError: The file cannot be written.
    """
    if not any(record.value is not None for run in runs for record in run.metrics):
        raise NothingSelectedError("no finished run has a number to save", where="--save")
    by_key(runs, "--save")
    suites = sorted({f"{run.manifest.suite.name} {run.manifest.suite.version}" for run in runs if run.manifest})
    if len(suites) > 1:
        raise ConfigError(
            f"the runs are of several suites ({', '.join(suites)})", where="--save", remedy="name those of one"
        )
    packed = [_packed(run) for run in runs]
    lines = ",\n".join(_as_text(run) for run in packed)
    head = f'{{"schema_version": {SCHEMA_VERSION}, "sha256": "{_sha256(packed)}", "runs": ['
    write_atomically(path, f"{head}\n{lines}\n]}}\n".encode())


@contextmanager
def opened(path: Path) -> Iterator[list[RunRecord]]:
    """Yield the runs of a baseline, as if they were stored.

    Args:
        path: The file.

    Raises:
        PrerequisiteError: It is missing.
        ResultsError: It is damaged, edited, or of another schema version.
    """
    if not path.is_file():
        raise PrerequisiteError("there is no such baseline", file=path, remedy="make one with `mlipbench gate --save`")
    remedy = f"give the file that `mlipbench gate --save` wrote, or {_SAVE}"
    content = read_record(path, BaselineFile, remedy)
    runs = [run.model_dump() for run in content.runs]
    if (found := _sha256(runs)) != content.sha256:
        problem = f"says {content.sha256[:12]}, its runs have {found[:12]}: it was edited"
        raise ResultsError(problem, file=path, where="sha256", remedy=_SAVE)
    with TemporaryDirectory(prefix="mlipbench-baseline-") as folder:
        try:
            found_runs = [_unpacked(run, Path(folder, str(place))) for place, run in enumerate(content.runs)]
        except (ResultsError, ValueError, KeyError, TypeError) as error:
            problem = error.problem if isinstance(error, ResultsError) else str(error)
            raise ResultsError(f"damaged: {problem}", file=path, remedy=_SAVE) from None
        by_key(found_runs, str(path))
        yield found_runs


def by_key(runs: Sequence[RunRecord], where: str) -> dict[tuple[str, str, int | None], RunRecord]:
    """Return runs by model, variant and seed.

    Args:
        runs: The runs.
        where: Where they come from, for the message.

    Raises:
        ConfigError: Two have the same.
    """
    found: dict[tuple[str, str, int | None], RunRecord] = {}
    for run in runs:
        key = (run.model, run.variant, run.seed)
        if key in found:
            names = f"{found[key].run_id} and {run.run_id}"
            raise ConfigError(
                f"two runs of {named(run)}: {names}", where=where, remedy="name the directory of one of them"
            )
        found[key] = run
    return found


def named(run: RunRecord) -> str:
    """Return what a run is called."""
    return run_title(run.model, run.variant, run.seed)


def _packed(run: RunRecord) -> dict[str, Any]:
    if run.manifest is None:
        raise ResultsError("has no manifest", file=run.run_id, remedy="name a run that mlipbench made")
    return {
        "manifest": run.manifest.model_dump(mode="json"),
        "metrics": [record.model_dump(mode="json") for record in run.metrics],
        "scores": [_scores(place, path) for place, path in score_files(run).items()],
    }


def score_files(run: RunRecord) -> dict[tuple[str, str, str], Path]:
    """Return the files of scores behind the numbers of a run, by task, dataset and split.

    Raises:
        ResultsError: One is not there.
    """
    directory = RunDirectory(Path(run.directory or ""))
    splits = [] if run.manifest is None else run.manifest.splits
    known = {(split.task.value, split.dataset, split.split) for split in splits}
    places = dict.fromkeys(
        (record.task, record.dataset, record.split) for record in run.metrics if record.value is not None
    )
    scored = [place for place in places if place in known and TASK_METRICS[Task(place[0])].columns is not None]
    files = {place: directory.scores(*place) for place in scored}
    for path in files.values():
        if not path.is_file():
            raise ResultsError("there is no such file", file=path, remedy=_SCORE)
    return files


def _scores(place: tuple[str, str, str], path: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ResultsError(f"damaged scores: {error}", file=path, remedy=_SCORE) from None
    columns = {name: [_plain(value) for value in table[name].to_pylist()] for name in table.column_names}
    types = {field.name: str(field.type) for field in table.schema}
    return {**dict(zip(("task", "dataset", "split"), place, strict=True)), "types": types, "columns": columns}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unpacked(run: BaselineRun, folder: Path) -> RunRecord:
    import pyarrow as pa
    import pyarrow.parquet as pq

    directory = RunDirectory(folder)
    directory.write_manifest(Manifest.model_validate(run.manifest))
    directory.write_metrics([MetricRecord.model_validate(record) for record in run.metrics])
    for scores in run.scores:
        columns = {name: pa.array(scores.columns[name], pa.type_for_alias(kind)) for name, kind in scores.types.items()}
        path = directory.scores(scores.task, scores.dataset, scores.split)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
    found = read_run(folder)
    if found is None:
        raise ResultsError("a run is not finished")
    return found


def _sha256(runs: Sequence[dict[str, Any]]) -> str:
    text = json.dumps(runs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_text(run: dict[str, Any]) -> str:
    """Return a run as JSON, one line for each part of the manifest, number and column of scores."""
    manifest = ",\n".join(f"{_line(name)}: {_line(value)}" for name, value in run["manifest"].items())
    metrics = ",\n".join(map(_line, run["metrics"]))
    scores = ",\n".join(_table_text(table) for table in run["scores"])
    return f'{{"manifest": {{\n{manifest}\n}}, "metrics": [\n{metrics}\n], "scores": [\n{scores}\n]}}'


def _table_text(table: dict[str, Any]) -> str:
    head = ", ".join(f"{_line(name)}: {_line(table[name])}" for name in ("task", "dataset", "split", "types"))
    columns = ",\n".join(f"{_line(name)}: {_line(values)}" for name, values in table["columns"].items())
    return f'{{{head}, "columns": {{\n{columns}\n}}}}'


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
