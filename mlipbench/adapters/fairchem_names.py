"""The checkpoints that fairchem-core 2 knows by name, found or downloaded by its own function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mlipbench.adapters.hub import HubFile, cached_file, demand_from_hub, package_json
from mlipbench.adapters.weights import missing, the_file
from mlipbench.errors import ConfigError
from mlipbench.yamlfile import did_you_mean

_LIST: Final = "fairchem/core/calculate/pretrained_models.json"


def find_file(checkpoint: str) -> Path:
    """Return the file of a checkpoint.

    Args:
        checkpoint: A path, or a name the package knows.

    Raises:
        ConfigError: The name is unknown.
        PrerequisiteError: The file is neither there nor can be downloaded, or the package is not installed.
    """
    if os.sep in checkpoint:
        return the_file(checkpoint)
    known = package_json("fairchem-core", _LIST)
    if checkpoint not in known:
        raise ConfigError(
            f"fairchem-core 2 knows no checkpoint {checkpoint!r}", where="checkpoint.name",
            remedy=did_you_mean(checkpoint, known),
        )  # fmt: skip
    entry = known[checkpoint]
    path = "/".join(part for part in (entry.get("subfolder"), entry["filename"]) if part)
    file = HubFile(entry["repo_id"], path, entry.get("revision"))
    cache = Path(os.environ.get("FAIRCHEM_CACHE_DIR") or Path.home() / ".cache" / "fairchem")  # as the package has it
    found = cached_file(file, cache)
    if found is not None:
        return found
    remedy = demand_from_hub(checkpoint, file)
    from fairchem.core.calculate.pretrained_mlip import pretrained_checkpoint_path_from_name

    try:
        return Path(pretrained_checkpoint_path_from_name(checkpoint))
    except (OSError, ValueError) as error:  # what the hub's library raises of refusals and lost connections
        raise missing(checkpoint, error, remedy) from error
