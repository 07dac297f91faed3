"""Options that several verbs share.

Annotations of commands are read at run time, so neither this module nor the verbs postpone their evaluation.
"""

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlipbench.cli import completion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.plan.budgets import BudgetMeasure
    from mlipbench.plan.plan import Plan
    from mlipbench.suite.schema import Suite


class DisplayKind(StrEnum):
    """How progress is shown."""

    RICH = "rich"
    PLAIN = "plain"
    NONE = "none"


class EngineKind(StrEnum):
    """What carries shards and trainings out."""

    LOCAL = "local"
    PARSL = "parsl"


class DataKind(StrEnum):
    """Which data a suite runs on, where not on its own."""

    MINI = "mini"


SuiteArgument = Annotated[
    str,
    typer.Argument(metavar="SUITE", help="Name of a shipped suite, or a YAML file.", autocompletion=completion.suites),
]
ModelsOption = Annotated[
    str | None,
    typer.Option(
        "--models",
        metavar="A,B",
        help="Models in place of the suite's: names, paths of cards, or folders of checkpoints.",
        autocompletion=completion.models,
    ),
]
DataRootOption = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", envvar="MLIPBENCH_DATA", help="Directory that holds the datasets."),
]
DataOption = Annotated[
    DataKind | None,
    typer.Option("--data", metavar="mini", help="Run on the embedded datasets that stand in for the suite's."),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="A profile of the suite, such as quick.")
]
ResultsOption = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Directory of the results.", show_default=True)
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", min=1, help="Only N structures of every split, spread over sizes and clusters."
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", help="Device in place of the suite's, such as cpu or cuda:0."),
]
DisplayOption = Annotated[
    DisplayKind | None,
    typer.Option("--display", metavar="rich|plain|none", help="How progress is shown; rich on a terminal, else plain."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
EngineOption = Annotated[
    EngineKind | None,
    typer.Option("--engine", metavar="local|parsl", help="Where it is done: on this machine, or where Parsl puts it."),
]
EngineConfigOption = Annotated[
    Path | None,
    typer.Option("--engine-config", metavar="FILE", help="Python file that defines `config`, a Parsl configuration."),
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Consent to run cards given by path, which can execute any code; recorded.")
]


def memory_size(text: str) -> int:
    """Return a size with its unit in bytes.

    Raises:
        typer.BadParameter: It is none, or less than any worker needs.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is no size; write it as 8GiB or 500MB") from None
    if size < _LEAST_MEMORY:
        raise typer.BadParameter(f"{text!r} is less than any worker needs; give at least 64MiB")
    return size


IsolatedOption = Annotated[
    bool, typer.Option("--isolated", help="Never run models in the running interpreter, even if it has their packages.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Consent to building the environments that are missing.")]

MemoryLimitOption = Annotated[
    int | None,
    typer.Option(
        "--memory-limit",
        metavar="SIZE",
        parser=memory_size,
        help="Memory a model's worker may use, such as 8GiB; nine tenths of the machine's if left out.",
    ),
]

DEFAULT_RESULTS = Path("results")
PROGRAM = (sys.executable, "-m", "mlipbench")
"""This program, as another process starts it."""
_HANDED_ON = ("MLIPBENCH_", "XDG_")  # nothing that may hold credentials: environments are built by then
FETCHED = "data"
"""Folder of the cache that data are fetched into where no other one is given."""
_LEAST_MEMORY = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Request:
    """What of a suite is asked for.

    Attributes:
        suite: Name or file of the suite.
        models: Comma-separated models in place of the suite's.
        limit: Most structures of a split.
        device: Device in place of the suite's.
        data_root: Directory that holds the datasets.
        trust: Whether cards given by path are trusted.
        isolated: Whether no model may run in the running interpreter.
        data: Which data it runs on, None for its own.
        profile: The profile of the suite, None for none.
    """

    suite: str
    models: str | None
    limit: int | None
    device: str | None
    data_root: Path | None
    trust: bool
    isolated: bool
    data: DataKind | None = None
    profile: str | None = None

    def plan(self, measure: "BudgetMeasure | None" = None, failed: "Mapping[str, str] | None" = None) -> "Plan":
        """Return the plan.

        Args:
            measure: Measures the batch budget of a model that has none; None leaves such a run waiting for it.
            failed: Why an environment could not be built, by name.

        Raises:
            ConfigError: Suite, card, dataset entry or an option is invalid.
            PrerequisiteError: Something is missing that even a plan needs.
            NothingSelectedError: ``--models`` names none.
        """
        from mlipbench.errors import NothingSelectedError
        from mlipbench.plan import Selection, build_plan

        chosen = None
        if self.models is not None:
            chosen = tuple(dict.fromkeys(name.strip() for name in self.models.split(",") if name.strip()))
            if not chosen:
                raise NothingSelectedError("no model is named", where="--models", remedy="see `mlipbench list models`")
        selection = Selection(
            models=chosen,
            limit=self.limit,
            device=self.device,
            trust=self.trust,
            isolated=self.isolated,
            failed=failed or {},
            measure=measure,
        )
        return build_plan(self.wanted()[0], selection, data_location(self.data_root))

    def wanted(self) -> "tuple[Suite, tuple[str, ...]]":
        """Return the suite on the data it runs on, and one line for each of its datasets that is replaced or left out.

        Raises:
            ConfigError: The suite, its profile or an entry is invalid, or no embedded dataset stands in for one of its
                datasets.
        """
        from mlipbench.plan.mini import on_mini_data
        from mlipbench.suite import load_suite
        from mlipbench.suite.profiles import find_profile, with_profile

        suite = load_suite(self.suite)
        profile = None if self.profile is None else find_profile(suite, self.profile)
        on_mini = DataKind.MINI in {self.data, profile.data if profile else None}
        wanted, lines = on_mini_data(suite) if on_mini else (suite, ())
        if profile is None or self.profile is None:
            return wanted, lines
        return with_profile(wanted, self.profile, profile, suite.suite), lines


def parsl_config(engine: EngineKind | None, config: Path | None) -> Path | None:
    """Return the Parsl configuration that is to be used, None for this machine.

    Raises:
        ConfigError: Only one of engine and configuration is given.
    """
    from mlipbench.errors import ConfigError

    if (engine is EngineKind.PARSL) != (config is not None):
        remedy = "give both: --engine parsl --engine-config FILE"
        raise ConfigError("a configuration and the engine parsl go together", where="--engine", remedy=remedy)
    return config


def place(name: str | Path) -> str:
    """Return a path as an absolute one, which another folder does not change, and a name as it is."""
    is_path = isinstance(name, Path) or name.endswith((".yaml", ".yml")) or "/" in name
    return str(Path(name).resolve()) if is_path else str(name)


def handed_on() -> dict[str, str]:
    """Return the variables that decide where things are found, for commands on other machines."""
    return {name: value for name, value in os.environ.items() if name.startswith(_HANDED_ON)}


def data_location(data_root: Path | None) -> "DataLocation":
    """Return where data are: below the folder given, else where `mlipbench data fetch` puts them without one.

    Raises:
        PrerequisiteError: The directory does not exist.
    """
    from mlipbench.cachedir import default_cache
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.errors import PrerequisiteError

    if data_root is not None and not data_root.is_dir():
        remedy = "give --data-root or MLIPBENCH_DATA a directory that exists"
        raise PrerequisiteError("there is no such directory", file=data_root, remedy=remedy)
    cache = default_cache()
    fetched = cache / FETCHED
    return DataLocation(data_root or (fetched if fetched.is_dir() else None), cache)
