"""``python -m mlipbench.nets FILE`` writes the number of parameters of every network and preset to a JSON file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from mlipbench.nets.build import NET_NAMES, build, presets_of


def count_parameters(name: str) -> dict[str, int]:
    """Return the parameters of a network by preset, counted from the built module.

    Args:
        name: Name of the network.
    """
    counts = {}
    for preset in presets_of(name):
        with torch.device("meta"):  # the shapes without the memory
            network = build(name, preset)
        counts[preset] = sum(parameter.numel() for parameter in network.parameters())
    return counts


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({name: count_parameters(name) for name in NET_NAMES}), encoding="utf-8")
