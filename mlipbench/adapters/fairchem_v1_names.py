"""The checkpoints that fairchem-core 1 knows by name, found or downloaded by its own function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mlipbench.adapters.hub import HubFile, cached_file, demand_from_hub, package_json
from mlipbench.adapters.weights import demand, missing, the_file
from mlipbench.cachedir import default_cache
from mlipbench.errors import ConfigError
from mlipbench.yamlfile import did_you_mean

_LIST: Final = "fairchem/core/models/pretrained_models.json"


def find_file(checkpoint: str) -> Path:
    """Return the file of a checkpoint.

    Args:
        checkpoint: A path, or a name from the package's list of published checkpoints.

    Raises:
        ConfigError: The name is unknown.
        PrerequisiteError: The file is neither there nor can be downloaded, or the package is not installed.
    """
    if os.sep in checkpoint:
        return the_file(checkpoint)
    known = package_json("fairchem-core", _LIST)
    if checkpoint not in known:
        raise ConfigError(
            f"fairchem-core 1 knows no checkpoint {checkpoint!r}", where="checkpoint.name",
            remedy=did_you_mean(checkpoint, known),
        )  # fmt: skip
    entry, folder = known[checkpoint], default_cache() / "fairchem-v1"
    if entry["type"] == "url":
        place = folder / Path(urlsplit(entry["url"]).path).name
        if place.is_file():
            return place
        demand(checkpoint, entry["url"], place)
        remedy = f"download {entry['url']} and store it as {place}"
    else:
        file = HubFile(entry["repo_id"], entry["filename"])
        found = cached_file(file)
        if found is not None:
            return found
        remedy = demand_from_hub(checkpoint, file)
    from mlipbench.adapters.stand_ins import provide

    provide()
    from fairchem.core.models.model_registry import model_name_to_local_file

    try:
        return Path(model_name_to_local_file(checkpoint, local_cache=folder))
    except (OSError, ValueError) as error:  # lost connections and refusals
        raise missing(checkpoint, error, remedy) from error
