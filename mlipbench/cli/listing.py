"""``mlipbench list``: what is there, from the files that declare it."""

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlipbench.cli import options
from mlipbench.cli.output import aligned, emit, emit_json, say
from mlipbench.errors import ExitCode, MlipbenchError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.environments import Environment
    from mlipbench.environments.built import BuiltEnvironment

Rows = list[dict[str, Any]]


class Kind(StrEnum):
    """What can be listed."""

    MODELS = "models"
    SUITES = "suites"
    RECIPES = "recipes"
    DATASETS = "datasets"
    METRICS = "metrics"
    ENVIRONMENTS = "environments"


def list_(
    kind: Annotated[
        Kind, typer.Argument(metavar="models|suites|recipes|datasets|metrics|environments", help="What to list.")
    ],
    json: options.JsonOption = False,
) -> int:
    """List models, suites, recipes, datasets, metrics or environments."""
    columns, make = _LISTS[kind]
    rows = make()
    if json:
        emit_json(_counted(rows) if kind is Kind.MODELS else rows)
    elif rows:
        emit(aligned(_with_sizes(rows) if "size" in columns else rows, columns))
        for row in rows:
            if row.get("problem"):
                say(f"mlipbench: {row['name']}: {row['problem']}")
    return int(ExitCode.DONE if rows else ExitCode.NOTHING)


def _models() -> Rows:
    from mlipbench.models.registry import card_names

    rows = []
    for name in card_names():
        card = _card(name)
        capabilities = card.get("capabilities", {})
        fields = {key: capabilities.get(key) for key in ("forces", "energy_reference", "level_of_theory")}
        place = {"name": name, "adapter": card.get("adapter"), "environment": card.get("environment")}
        rows.append({**place, **fields, "trainer": card.get("trainer")})
    return rows


def _counted(rows: Rows) -> Rows:
    """Return models with the parameters of our networks by preset, counted from the built ones; None without torch."""
    from mlipbench.cachedir import default_cache
    from mlipbench.environments import Environments
    from mlipbench.execution.counting import network_parameters

    counts: Mapping[str, Mapping[str, int]] = {}
    if any(row["trainer"] == "nets" for row in rows):
        cache = default_cache()
        try:
            counts = network_parameters(cache, Environments(cache).find("torch"))
        except PrerequisiteError as error:
            say(f"mlipbench: parameters are not counted: {error}")
    return [{**row, "parameters": counts.get(row["name"]) if row["trainer"] == "nets" else None} for row in rows]


def _card(name: str) -> "Mapping[str, Any]":
    """Return the card as it stands in its file; validating it would take longer than all the rest."""
    import mlipbench.models

    shipped = Path(mlipbench.models.__file__).parent / "cards" / f"{name}.yaml"
    if shipped.is_file():
        return _read(shipped)
    from mlipbench.models.registry import load_card

    return load_card(name).model_dump(mode="json")


def _suites() -> Rows:
    from mlipbench.suite import suite_names, suite_path

    rows = []
    for name in suite_names():
        suite = _read(suite_path(name))
        if "extends" in suite:
            suite = {**_read(suite_path(suite["extends"])), **suite}
        models = [choice if isinstance(choice, str) else choice.get("name") for choice in suite.get("models", ())]
        datasets = list(suite.get("datasets", ()))
        fields = {"version": suite.get("version"), "models": models, "datasets": datasets}
        rows.append({"name": name, **fields, "description": suite.get("description", "")})
    return rows


def _recipes() -> Rows:
    from mlipbench.recipes import recipe_names, recipe_path

    keys = ("version", "model", "dataset", "preset", "steps", "seconds", "description")
    return [{"name": name, **{key: _read(recipe_path(name)).get(key) for key in keys}} for name in recipe_names()]


def _datasets() -> Rows:
    from mlipbench.datasets.names import ENTRIES, entry_names

    rows = []
    for name in entry_names():
        entry = _read(ENTRIES / f"{name}.yaml")
        fields = {key: entry.get(key) for key in ("title", "level_of_theory", "energy_reference")}
        rows.append({"name": name, **fields, "splits": list(entry.get("splits", ())), **_files(entry)})
    return rows


def _files(entry: "Mapping[str, Any]") -> dict[str, Any]:
    """Return whether the files of a dataset are there, and how much there is to download, in bytes."""
    from mlipbench.cachedir import default_cache
    from mlipbench.datasets.fetch import Presence, presence
    from mlipbench.datasets.sources import Archive

    if entry.get("root") == "package":
        return {"files": "embedded", "bytes": None}
    root = Path(os.environ.get("MLIPBENCH_DATA") or default_cache() / options.FETCHED)
    archives = [Archive.model_validate(archive) for archive in entry.get("sources", ())]
    if not archives:
        return {"files": "your own", "bytes": None}
    found = {presence(archive, root) for archive in archives}
    if found == {Presence.ABSENT}:  # unpacked by hand, or under another of their names
        found = {Presence.PLACED if _has_files(split, root) else Presence.ABSENT for split in entry["splits"].values()}
    sizes = [archive.size for archive in archives]
    state = found.pop() if len(found) == 1 else "in part"
    return {"files": str(state), "bytes": None if None in sizes else sum(size or 0 for size in sizes)}


def _has_files(split: "Mapping[str, Any]", root: Path) -> bool:
    """Return whether each of a split's patterns matches something under one of its names."""
    from mlipbench.datasets.rules import alternatives

    return all(any(any(root.glob(name)) for name in alternatives(patterns)) for patterns in split["files"])


def _metrics() -> Rows:
    from mlipbench.metrics.catalogue import TASK_METRICS

    return [
        {
            "name": definition.name,
            "task": task.value,
            "unit": definition.unit,
            "better": definition.direction.value,
            "title": definition.title,
            "threshold": "" if definition.threshold is None else f"{definition.threshold.limit:g}",
            "threshold_source": "" if definition.threshold is None else definition.threshold.source,
            "formula": definition.formula,
        }
        for task, metrics in TASK_METRICS.items()
        for definition in metrics.definitions.values()
    ]


def _environments() -> Rows:
    from mlipbench.cachedir import default_cache
    from mlipbench.environments import Environments, environment_names
    from mlipbench.environments.built import built_environments

    cache = default_cache()
    environments = Environments(cache)
    rows = []
    used = set()
    for name in environment_names():
        try:
            found = environments.find(name)
        except MlipbenchError as error:
            rows.append({"name": name, "ready": False, "how": "user's python", "problem": str(error)})
            continue
        used.add(found.folder)
        rows.append(_environment(found))
    left = [one for one in built_environments(cache) if one.folder not in used]
    rows += [{**_built(one), "ready": True, "how": "built, not in use"} for one in left]
    keys = ("name", "ready", "how", "python", "packages", "bytes", "path", "problem")
    return [{key: row.get(key) for key in keys} for row in sorted(rows, key=lambda row: str(row["name"]))]


def _environment(found: "Environment") -> dict[str, Any]:
    """Return the row of an environment; the size of one that is not ours is not measured."""
    from mlipbench.environments import environment_facts
    from mlipbench.environments.built import BuiltEnvironment

    row = {"name": found.name, "ready": found.problem is None, "how": found.how.value, "problem": found.problem}
    built = BuiltEnvironment.read(found.folder) if found.how == "built" else None
    if built is not None:
        return {**row, **_built(built)}
    if found.problem is not None:
        return row
    facts = environment_facts(found)
    return {**row, "python": facts.python, "packages": len(facts.packages), "path": str(found.python)}


def _built(built: "BuiltEnvironment") -> dict[str, Any]:
    return {
        "name": built.name,
        "python": built.python,
        "packages": built.packages,
        "bytes": built.size,
        "path": str(built.folder),
    }


def _with_sizes(rows: Rows) -> Rows:
    from mlipbench.environments.build import in_bytes

    return [{**row, "size": None if row["bytes"] is None else in_bytes(row["bytes"])} for row in rows]


def _read(path: Path) -> "Mapping[str, Any]":
    from mlipbench.yamlfile import read_yaml

    return read_yaml(path)


_LISTS: dict[Kind, tuple[tuple[str, ...], Callable[[], Rows]]] = {
    Kind.MODELS: (("name", "adapter", "environment", "forces", "energy_reference", "level_of_theory"), _models),
    Kind.SUITES: (("name", "version", "models", "datasets", "description"), _suites),
    Kind.RECIPES: (("name", "version", "model", "dataset", "preset", "description"), _recipes),
    Kind.DATASETS: (("name", "files", "size", "splits", "level_of_theory", "energy_reference", "title"), _datasets),
    Kind.METRICS: (("name", "task", "unit", "better", "threshold", "title"), _metrics),
    Kind.ENVIRONMENTS: (("name", "ready", "how", "python", "packages", "size", "path"), _environments),
}
