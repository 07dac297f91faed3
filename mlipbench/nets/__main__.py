"""``python -m mlipbench.nets FILE`` writes the number of parameters of every network and preset to a JSON file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mlipbench.nets.build import NET_NAMES, build, presets_of


def count_parameters(name: str) -> dict[str, int]:
    """Return the parameters of a network by preset, counted from the built module.

    Args:
        name: Name of the network.
    """
    networks = ((preset, build(name, preset)) for preset in presets_of(name))
    return {preset: sum(parameter.numel() for parameter in network.parameters()) for preset, network in networks}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({name: count_parameters(name) for name in NET_NAMES}), encoding="utf-8")
