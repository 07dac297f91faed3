"""Weights that are not on the machine: found out in seconds, said in one line."""

from __future__ import annotations

import contextlib
import os
import pickle
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.trusted import check_named

if TYPE_CHECKING:
    from mlipbench.models.interface import LoadRequest

_PATIENCE: Final = 5.0  # s, to find out whether a server answers at all; packages wait for minutes
UNREADABLE: Final = (
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""What unpickling a damaged or foreign file was seen to raise."""


def demand(name: str, url: str, place: str | Path) -> None:
    """Ask a server for the head of a file, so that one which cannot be reached is noticed before a long wait.

    Args:
        name: What the user calls the weights.
        url: Where they can be had.
        place: Where the package looks for them.

    Raises:
        PrerequisiteError: The server does not answer, or does not have the file.
    """
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  # addresses come from the packages
    try:
        with contextlib.closing(urllib.request.urlopen(request, timeout=_PATIENCE)):  # noqa: S310
            pass
    except OSError as error:
        raise missing(name, error, f"download {url} and store it as {place}") from error


def missing(name: str, cause: object, remedy: str) -> PrerequisiteError:
    """Return the error that says that weights are not there and cannot be got."""
    said = (str(cause).strip().splitlines() or [""])[0]
    return PrerequisiteError(
        f"the weights of {name!r} are not on this machine and cannot be downloaded ({said})", remedy=remedy
    )


def unreadable(path: Path, kind: str, error: BaseException) -> ConfigError:
    """Return the error that says that a file holds no weights of some kind."""
    said = (str(error).strip().splitlines() or [""])[0]
    return ConfigError(f"cannot be read as {kind} ({type(error).__name__}: {said})", file=path)


def checked(kind: str, request: LoadRequest, path: Path) -> str | None:
    """Hold a file that a package found by name to its checksum, and return it; None for a file given by its path.

    Args:
        kind: Whose name it is.
        request: Holds the name, and the checksum that the card pins.
        path: The file.

    Raises:
        ConfigError: Its checksum is another one.
    """
    name = str(request.checkpoint)
    return None if os.sep in name else check_named(kind, name, path, request.sha256)


def the_file(checkpoint: str) -> Path:
    """Return the path of a checkpoint that is given by one.

    Raises:
        PrerequisiteError: There is no such file.
    """
    if not Path(checkpoint).is_file():
        raise PrerequisiteError("there is no such checkpoint", file=checkpoint)
    return Path(checkpoint)


def load_pickle(path: Path, kind: str, device: str = "cpu") -> Any:
    """Unpickle a checkpoint: the file can run any code.

    Raises:
        ConfigError: It cannot be read.
    """
    import torch

    try:
        return torch.load(path, map_location=device, weights_only=False)
    except UNREADABLE as error:
        raise unreadable(path, kind, error) from error


def frozen(module: Any) -> frozenset[str]:
    """Let no parameter of a module require a gradient, and return the names of those that did."""
    names = frozenset(name for name, tensor in module.named_parameters() if tensor.requires_grad)
    module.requires_grad_(requires_grad=False)
    return names
