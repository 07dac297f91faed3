"""What stands in ``manifest.json`` and ``metrics.json``, validated at the file boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlipbench.cost import ParityFacts
from mlipbench.errors import ResultsError
from mlipbench.metrics.values import Direction
from mlipbench.status import Role, Status, Task, Training

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION: Final = 1
_SCORE: Final = "rebuild it with `mlipbench score`"


class Record(BaseModel):
    """What stands in one file of a run, or a part of it; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


AnyRecord = TypeVar("AnyRecord", bound=Record)


class SuiteIdentity(Record):
    """Which suite was run.

    Attributes:
        name: Its name.
        version: Its version.
        sha256: Checksum of its content.
        units: Units of energy that tables show; empty where their size decides.
    """

    name: str
    version: int
    sha256: str
    units: tuple[str, ...] = ()


class DatasetIdentity(Record):
    """Which data were used.

    Attributes:
        name: Name of the dataset entry.
        title: Title for tables.
        level_of_theory: Level of theory of the labels.
        energy_reference: What the labels' energies are measured against.
        splits: Content hash of every split that was read, by name.
        entry: The entry as read, overrides applied.
        note: What a reader of a table must know of it.
        references_sha256: Checksum of the file that says which references an adsorption energy uses, if there is one.
        factors_sha256: Checksum of the file that says which levels of two factors a structure has, if there is one.
    """

    name: str
    title: str
    level_of_theory: str
    energy_reference: str
    splits: dict[str, str]
    entry: dict[str, Any]
    note: str | None = None
    references_sha256: str | None = None
    factors_sha256: str | None = None


class VariantRecord(Record):
    """The settings a card was run with."""

    name: str
    precision: str
    device: str
    batch: dict[str, int]
    settings: dict[str, Any] = Field(default_factory=dict)


class ModelIdentity(Record):
    """Which model was run."""

    name: str
    card: dict[str, Any]
    card_sha256: str
    checkpoints: dict[str, dict[str, Any]] = Field(default_factory=dict)
    trusted_by_user: bool = False


class SplitRecord(Record):
    """What became of one split of one task.

    Attributes:
        task: The task.
        dataset: Name of the dataset.
        split: Name of the split.
        role: What the split was predicted for.
        status: ``ok``, ``partial`` (some structures failed, or a variant predicts something else than the one it is
            compared with), ``failed`` (none was predicted) or ``not_applicable``.
        reason: Why the status is not ``ok``.
        n_expected: Structures of the split, or of the selected part of it.
        n_predicted: Structures with a prediction.
        n_failed: Structures whose prediction failed, or which were not attempted.
        n_not_applicable: Structures the model declines, such as compositions outside its span.
        shards: Into how many shards it is cut.
        selection: ``all``, or which part of the split was taken.
        relation: How the model's training data relate to the split; None where it is not evaluated.
        n_in_training: Structures that also stand among those the model was trained on; None where these are not at
            hand.
        n_in_validation: Likewise, among those that its training was validated on.
        parameters: Of the task, where it has any.
        places: Which structures of the split were taken, where these are not all.
    """

    task: Task
    dataset: str
    split: str
    role: Role
    status: Status
    reason: str | None = None
    n_expected: int
    n_predicted: int = 0
    n_failed: int = 0
    n_not_applicable: int = 0
    shards: int = 1
    selection: str = "all"
    relation: Training | None = None
    n_in_training: int | None = None
    n_in_validation: int | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    places: list[int] | None = None


class ShardRecord(Record):
    """What became of one shard of a split.

    Attributes:
        plan_sha256: Identity of the run's plan.
        code_version: Version of the code that computed it.
        lock_sha256: Checksum of the ``requirements.lock`` of the environment; None where mlipbench did not build it.
        weights_sha256: Checksum of the weights; None where nobody knows it.
        start: Place of its first structure in the split.
        stop: Place behind the last one.
        n_predicted: Structures with a prediction.
        n_failed: Structures whose prediction failed, or which were not attempted.
        n_not_applicable: Structures the model declines.
        failed: Why the first that failed did, or why the shard ended early.
        declined: Why the first that was declined was.
        packages: Versions of the worker's packages.
        hardware: Of the parent and the worker.
        parameters: Parameters of the model.
        seconds: Wall time.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    plan_sha256: str
    code_version: str
    lock_sha256: str | None = None
    weights_sha256: str | None = None
    start: int
    stop: int
    n_predicted: int
    n_failed: int
    n_not_applicable: int
    failed: str | None = None
    declined: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    hardware: dict[str, dict[str, Any]] = Field(default_factory=dict)
    parameters: int | None = None
    seconds: float


class RouteRecord(Record):
    """How energies of one dataset are compared.

    Attributes:
        dataset: Name of the dataset.
        shift: Kind of the fitted shift, or None.
        fit: Split the shift is fitted on.
        corrections: Named corrections added to the labels.
        refusal: Why energies cannot be compared, or None.
    """

    dataset: str
    shift: str | None = None
    fit: str | None = None
    corrections: list[str] = Field(default_factory=list)
    refusal: str | None = None


class CellRecord(Record):
    """One number the table is to hold, as planned; see `MetricRecord` for the fields."""

    task: Task
    dataset: str
    split: str
    metric: str
    status: Status
    reason: str | None = None
    conversion: str | None = None
    comparability_key: str
    relation: Training = Training.UNKNOWN
    training: str | None = None


class EnvironmentRecord(Record):
    """What a model ran in.

    Attributes:
        name: Name of the environment.
        how: How it came to be.
        python: Version of its Python.
        lock_sha256: Checksum of its ``requirements.lock``, a copy of which lies beside the manifest; None where it was
            not built by mlipbench.
        packages: Versions of all its packages by name.
        parameters: Parameters of the model.
    """

    name: str | None = None
    how: str | None = None
    python: str | None = None
    lock_sha256: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    parameters: int | None = None


class Manifest(Record):
    """Everything known of one run: one suite, one model variant, one seed, splits cut into so many shards."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    plan_sha256: str
    status: Status
    suite: SuiteIdentity
    model: ModelIdentity
    variant: VariantRecord
    seed: int
    threads: int
    code_version: str
    started: str
    finished: str | None = None
    wall_seconds: float | None = None
    resumed: list[str] = Field(default_factory=list)
    shards: int = 1
    arguments: list[str] = Field(default_factory=list)
    datasets: list[DatasetIdentity] = Field(default_factory=list)
    splits: list[SplitRecord] = Field(default_factory=list)
    routes: list[RouteRecord] = Field(default_factory=list)
    cells: list[CellRecord] = Field(default_factory=list)
    packages: dict[str, dict[str, str]] = Field(default_factory=dict)
    hardware: dict[str, Any] = Field(default_factory=dict)
    git: dict[str, Any] | None = None
    environment: EnvironmentRecord = Field(default_factory=EnvironmentRecord)


class MetricRecord(Record):
    """One number of one run, or why it is missing.

    Attributes:
        dataset: Name of the dataset.
        split: Name of the split.
        task: Name of the task.
        metric: Name of the metric.
        value: The number in `unit`, null where it could not be had.
        unit: Unit of value and interval.
        direction: Whether lower or higher is better.
        ci_low: Lower end of the 95 % interval, null where there is none.
        ci_high: Upper end of the 95 % interval.
        two_way_low: Lower end of the 95 % interval over both factors that the dataset names, null where there is none.
        two_way_high: Upper end of that.
        n: Structures that entered the number.
        n_clusters: Independent clusters among them.
        design_effect: Variance of the value over that of as many independent structures, null where it is not known.
        n_failed: Structures that failed.
        status: ``ok``, ``partial``, ``failed`` or ``not_applicable``.
        reason: Why there is no value, no interval, or why the status is not ``ok``.
        comparability_key: Equal for numbers that may be ranked together.
        conversion: How labels and predictions were brought to one energy reference, for reading beside the number.
        relation: How the model's training data relate to the split.
        training: What must be known of that.
    """

    dataset: str
    split: str
    task: str
    metric: str
    value: float | None
    unit: str
    direction: Direction
    ci_low: float | None = None
    ci_high: float | None = None
    two_way_low: float | None = None
    two_way_high: float | None = None
    n: int = 0
    n_clusters: int = 0
    design_effect: float | None = None
    n_failed: int = 0
    status: Status
    reason: str | None = None
    comparability_key: str
    conversion: str | None = None
    relation: Training = Training.UNKNOWN
    training: str | None = None


class CostRecord(Record):
    """What is known of the cost of a model on a split besides its timed calls.

    Attributes:
        counts: `mlipbench.cost.CostFacts` as plain data; None where they could not be had.
        counts_reason: Why not.
        limit: Why no larger batch was measured, where the model or the machine is to blame.
        reference: The model that others' times are divided by, if it was measured beside this one.
        parity: How it compares with another variant of the same model; None where nothing was to be compared.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    counts: dict[str, Any] | None = None
    counts_reason: str | None = None
    limit: str | None = None
    reference: str | None = None
    parity: ParityFacts | None = None


class MetricsFile(Record):
    """Contents of ``metrics.json``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    metrics: list[MetricRecord]


def read_manifest(path: Path) -> Manifest:
    """Read ``manifest.json``.

    Raises:
        ResultsError: The file is missing, damaged or of another schema version.
    """
    return read_record(path, Manifest)


def read_cost(path: Path) -> CostRecord:
    """Read what is known of the cost of a split.

    Raises:
        ResultsError: The file is missing, damaged or of another schema version.
    """
    return read_record(path, CostRecord)


def read_metrics(path: Path) -> list[MetricRecord]:
    """Read ``metrics.json``.

    Raises:
        ResultsError: The file is missing, damaged or of another schema version.
    """
    if not path.exists() and (path.parent / "manifest.json").exists():
        raise ResultsError("there is no such file", file=path, remedy=_SCORE)
    return read_record(path, MetricsFile, _SCORE).metrics


def read_record(path: Path, kind: type[AnyRecord], remedy: str = "restore it, or remove the run") -> AnyRecord:
    """Read a file that holds one record.

    Args:
        path: The file.
        kind: Class of the record.
        remedy: What helps where it is damaged.

    Raises:
        ResultsError: The file is missing, damaged or of another schema version.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ResultsError("there is no such file", file=path, remedy="is this a run directory?") from None
    except OSError as error:
        raise ResultsError(f"cannot be read ({error.strerror})", file=path, remedy="is this a run directory?") from None
    except ValidationError as error:
        raise _damaged(error, path, remedy) from None


def _damaged(error: ValidationError, path: Path, remedy: str) -> ResultsError:
    """Return what is wrong with a file; another version goes before all that follows from it."""
    problems = error.errors(include_url=False)
    version = next((one["input"] for one in problems if one["loc"] == ("schema_version",)), None)
    if isinstance(version, int):
        problem = f"is version {version}, and this mlipbench reads version {SCHEMA_VERSION}"
        return ResultsError(problem, file=path, where="schema_version", remedy="use the mlipbench that wrote it")
    where = ".".join(str(part) for part in problems[0]["loc"]) or None
    return ResultsError(f"damaged: {problems[0]['msg']}", file=path, where=where, remedy=remedy)
