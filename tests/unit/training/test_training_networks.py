"""Every network goes through a training and into a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402 - after torch

from mlipbench.nets import NET_NAMES, build, presets_of  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", NET_NAMES)
def test_weights_are_saved_and_read_back(name: str, tmp_path: Path) -> None:
    """Tensors that share memory under two names cannot be saved."""
    torch.manual_seed(0)
    network = build(name, "small")
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    other = build(name, "small")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for key, value in other.state_dict().items():
        assert torch.equal(value, network.state_dict()[key]), key


@pytest.mark.parametrize("name", NET_NAMES)
def test_presets_are_those_promised(name: str) -> None:
    assert set(presets_of(name)) == {"oc20", "iso17", "lips", "md17", "small"}
