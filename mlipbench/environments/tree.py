"""Another version of a project, installed beside what is installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.environments.pipconfig import pip_indexes
from mlipbench.environments.uv import Uv, UvError
from mlipbench.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Revision:
    """A version of a project, installed in a folder of its own.

    Attributes:
        name: What it was asked for by, such as ``origin/main``.
        commit: Its commit.
        packages: The folder that holds its packages, without what they depend on.
    """

    name: str
    commit: str
    packages: Path


def install_revision(name: str, project: Path, folder: Path) -> Revision:
    """Install a version of the project in a repository into a folder; neither repository nor environment is changed.

    Args:
        name: A branch, tag or commit.
        project: A folder in the working tree of the project.
        folder: An empty folder to install into.

    Raises:
        ConfigError: The folder is in no git repository, there is no such version, or that is no Python project.
        PrerequisiteError: git is not installed, or the version cannot be built.
    """
    top = Path(_git(project, "rev-parse", "--show-toplevel", remedy="run the command in the project's repository"))
    remedy = "name a branch, tag or commit; a shallow clone has none but its own (`fetch-depth: 0`)"
    commit = _git(top, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", remedy=remedy, where=name)
    source, packages, log = folder / "source", folder / "packages", folder / "log.txt"
    _git(top, "clone", "--quiet", "--shared", "--no-checkout", str(top), str(source), remedy=remedy)
    _git(source, "checkout", "--quiet", "--detach", commit, remedy=remedy, where=name)
    if not any((source / file).is_file() for file in ("pyproject.toml", "setup.py")):
        raise ConfigError("is no Python project", file=top, where=name, remedy="it needs a pyproject.toml")
    try:
        uv = Uv(pip_indexes(), log, folder)
        uv.run("pip", "install", "--python", sys.executable, "--no-deps", "--target", str(packages), str(source))
    except UvError as error:
        raise PrerequisiteError(f"cannot be built: {error}", file=top, where=f"{name} ({commit[:12]})") from None
    return Revision(name, commit, packages)


def _git(folder: Path, *words: str, remedy: str, where: str | None = None) -> str:
    command: Sequence[str] = ["git", *words]
    try:
        done = subprocess.run(  # noqa: S603 - git with words of ours
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except FileNotFoundError:
        raise PrerequisiteError("git is not installed", where="--against", remedy="install git") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["there is no such version"]
        raise ConfigError(said[-1].removeprefix("fatal: "), file=folder, where=where, remedy=remedy)
    return done.stdout.strip()
