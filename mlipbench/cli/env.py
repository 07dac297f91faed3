"""``mlipbench env``, and the consent that other verbs ask for before they build."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlipbench.cli import completion, options
from mlipbench.cli.output import emit, emit_json, say
from mlipbench.errors import ConfigError, ExitCode, MlipbenchError, NothingSelectedError, PrerequisiteError

if TYPE_CHECKING:
    from mlipbench.environments import Environment, Environments
    from mlipbench.environments.built import BuiltEnvironment
    from mlipbench.progress import Display

NamesArgument = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Names of environments.", autocompletion=completion.environments),
]

app = typer.Typer(help="Build and remove the environments of models.", rich_markup_mode=None)


@app.command()
def create(
    names: NamesArgument,
    *,
    lock: Annotated[
        Path | None,
        typer.Option("--from", metavar="LOCK", help="Repeat the list of packages that another build has left."),
    ] = None,
    python: Annotated[
        Path | None, typer.Option("--python", metavar="PATH", help="Interpreter whose version the environment gets.")
    ] = None,
    display: options.DisplayOption = None,
    json: options.JsonOption = False,
) -> int:
    """Build environments, and print the folder of each; one that is there is only reported."""
    from mlipbench.cachedir import default_cache
    from mlipbench.cli.display import open_display
    from mlipbench.environments import Environments
    from mlipbench.environments.build import create_environment

    if lock is not None and len(names) > 1:
        raise ConfigError("a lock is of one environment", where="--from", remedy="name one environment")
    environments = Environments(default_cache())
    with open_display(display) as shown:
        made = [create_environment(environments.request(name, python, lock), shown) for name in dict.fromkeys(names)]
    for name in names:
        if name in environments.configuration.environments:
            say(f"mlipbench: {name}: the configuration names a python, which is used in place of what was built")
    if json:
        emit_json([_as_dict(one) for one in made])
    else:
        emit("\n".join(str(one.folder) for one in made))
    return int(ExitCode.DONE)


@app.command()
def remove(names: NamesArgument, *, json: options.JsonOption = False) -> int:
    """Remove all that was built of some environments."""
    from mlipbench.cachedir import default_cache
    from mlipbench.environments import environment_names
    from mlipbench.environments.build import in_bytes
    from mlipbench.environments.built import built_environments, remove_built
    from mlipbench.yamlfile import did_you_mean

    cache = default_cache()
    known = {*environment_names(), *(found.name for found in built_environments(cache))}
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown environment {name!r}", remedy=did_you_mean(name, known))
    removed = [one for name in dict.fromkeys(names) for one in remove_built(cache, name)]
    if json:
        emit_json([_as_dict(one) for one in removed])
    elif removed:
        emit("\n".join(f"{one.folder}: removed, {in_bytes(one.size)}" for one in removed))
    if not removed:
        raise NothingSelectedError(
            f"nothing was built of {', '.join(names)}", remedy="see `mlipbench list environments`"
        )
    return int(ExitCode.DONE)


def build_missing(
    environments: "Environments", missing: Sequence["Environment"], display: "Display", *, consent: bool
) -> dict[str, str]:
    """Build what some models need, after asking once for all.

    Args:
        environments: What finds them.
        missing: Those to be built.
        display: Shows progress.
        consent: Whether the user has consented already.

    Returns:
        By name of the environment why it is not there, those that the user declined included.

    Raises:
        PrerequisiteError: There is no consent, and no terminal to ask on.
    """
    from mlipbench.environments.build import create_environment

    names = [environment.name for environment in missing]
    if not consent and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise PrerequisiteError(
            f"{_phrase(names)} to be built, and there is no terminal to ask on",
            remedy=f"give --yes, run `mlipbench env create {' '.join(names)}`, or choose other models with --models",
        )
    for environment in missing:
        display.note(f"environment {environment.name}: {environment.describe()}")
    it = "it" if len(names) == 1 else "them"
    question = f"{_phrase(names)} to be built. Build {it} now? Otherwise the models in {it} are left out"
    if not consent and not typer.confirm(question, err=True):
        return {name: f"the environment {name!r} is not built; run: mlipbench env create {name}" for name in names}
    failed = {}
    for name in names:
        try:
            create_environment(environments.request(name), display)
        except MlipbenchError as error:  # the models of other environments are run nevertheless
            failed[name] = str(error)
    return failed


def _phrase(names: Sequence[str]) -> str:
    return f"the environment {names[0]} has" if len(names) == 1 else f"the environments {', '.join(names)} have"


def _as_dict(built: "BuiltEnvironment") -> dict[str, Any]:
    return {
        "name": built.name,
        "folder": str(built.folder),
        "python": built.python,
        "compute": built.compute,
        "packages": built.packages,
        "bytes": built.size,
        "lock": str(built.lock),
        "lock_sha256": built.lock_sha256,
    }
