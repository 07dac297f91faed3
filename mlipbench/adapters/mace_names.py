"""The foundation models that mace-torch knows by name, found or downloaded by its own functions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlipbench.adapters.patching import replaced
from mlipbench.adapters.weights import demand, missing, the_file
from mlipbench.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Callable

_FAMILIES: Final = ("mp", "off", "omol")


def find_file(checkpoint: str, family: str) -> Path:
    """Return the file of a checkpoint.

    Args:
        checkpoint: A path, or a name that the package's function ``mace_FAMILY`` knows.
        family: ``mp``, ``off`` or ``omol``.

    Raises:
        ConfigError: The family or the name is unknown.
        PrerequisiteError: The file is neither there nor can be downloaded.
    """
    if os.sep in checkpoint:
        return the_file(checkpoint)
    if family not in _FAMILIES:
        raise ConfigError(f"unknown family {family!r}", where="kwargs.family", remedy=f"known: {', '.join(_FAMILIES)}")
    return _by_name(checkpoint, family)


def _by_name(name: str, family: str) -> Path:
    """Let the package's function find the file: it calls `torch.load` with the path last."""
    from mace.calculators import foundations_models as package

    found: list[Path] = []
    retrieve = package._urlretrieve_with_timeout  # noqa: SLF001  # the only place where url and file are both known
    with (
        replaced(package, "_urlretrieve_with_timeout", _guarded(retrieve, name)),
        replaced(package.torch, "load", lambda path, **_: found.append(Path(path))),
    ):
        try:
            getattr(package, f"mace_{family}")(model=name, device="cpu", return_raw_model=True)
        except RuntimeError as error:  # what the package wraps everything in
            cause = error.__cause__
            if isinstance(cause, PrerequisiteError):
                raise cause from None
            raise ConfigError(
                f"mace-torch knows no model {name!r} in the family {family!r} ({cause})", where="checkpoint.name",
                remedy=_known(package, family),
            ) from error  # fmt: skip
    return found[0]


def _known(package: Any, family: str) -> str | None:
    names = getattr(package, f"mace_{family}_urls", None)  # `mace_omol` keeps its names to itself, and says them
    return f"known: {', '.join(names)}" if names else None


def _guarded(retrieve: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return the package's download, preceded by a question to the server."""

    def download(url: str, filename: str, **options: Any) -> Any:
        demand(name, url, filename)
        try:
            return retrieve(url, filename, **options)
        except OSError as error:
            raise missing(name, error, f"download {url} and store it as {filename}") from error

    return download
