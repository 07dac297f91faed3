"""Weights on the Hugging Face hub, most of them behind an agreement: what is missing is found out without the package.

The packages themselves retry for half a minute before they say that a machine is offline. Tokens are those of the
user's own login or of ``HF_TOKEN``, found by the hub's library; they are never read here beyond whether there is one.
"""

from __future__ import annotations

import importlib.metadata
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlipbench.adapters.weights import missing
from mlipbench.errors import PrerequisiteError

_PATIENCE: Final = 1.0  # s, to find out whether the hub can be reached


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file on the hub.

    Attributes:
        repository: Such as ``facebook/UMA``.
        path: Path in it.
        revision: Tag, branch or commit; None for the newest.
    """

    repository: str
    path: str
    revision: str | None = None


def package_json(distribution: str, path: str) -> dict[str, Any]:
    """Return a file of an installed package as data, without importing the package.

    Raises:
        PrerequisiteError: The package is not installed, or has no such file.
    """
    try:
        place = importlib.metadata.distribution(distribution).locate_file(path)
        data: dict[str, Any] = json.loads(Path(str(place)).read_text(encoding="utf-8"))
    except (importlib.metadata.PackageNotFoundError, OSError) as error:
        raise PrerequisiteError(
            f"{distribution} is not installed here in the release needed ({error})",
            remedy="run the model in the environment of its card",
        ) from error
    return data


def cached_file(file: HubFile, cache: Path | None = None) -> Path | None:
    """Return where a file is in the local cache, None if it is not.

    Args:
        file: The file.
        cache: Folder of the cache; None takes the hub's.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repository, file.path, cache_dir=cache, revision=file.revision)
    return Path(found) if isinstance(found, str) else None


def demand_from_hub(name: str, file: HubFile) -> str:
    """Check within two seconds that nothing obvious hinders a download, and return what to do if it fails.

    Args:
        name: What the user calls the weights.
        file: The file.

    Raises:
        PrerequisiteError: There is no token or no connection.
    """
    from huggingface_hub import constants, get_token

    page = f"{constants.ENDPOINT}/{file.repository}"
    remedy = f"accept the licence at {page}, then log in with `hf auth login` or set HF_TOKEN"
    if get_token() is None:
        raise missing(name, "no token of the Hugging Face hub was found", remedy)
    if constants.HF_HUB_OFFLINE:
        raise missing(name, "HF_HUB_OFFLINE is set", f"unset it, or put {file.path} into the hub's cache")
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=_PATIENCE).close()  # noqa: S310
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError as error:
        raise missing(name, error, f"connect to {constants.ENDPOINT}, then give the command again") from error
    return remedy
