"""What asks for the CPU build, and what is refused then."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlipbench.environments import compute
from mlipbench.environments.compute import cuda_packages, decide_compute, refuse_cuda
from mlipbench.environments.configuration import UserConfiguration
from mlipbench.environments.families import Compute
from mlipbench.environments.installed import Installation
from mlipbench.errors import PrerequisiteError

CPU, CUDA = Compute.CPU, Compute.CUDA


@pytest.mark.parametrize(
    ("said", "device", "torch", "expected"),
    [
        (None, False, None, CPU),
        (None, True, None, CUDA),
        (None, True, "2.13.0", CUDA),
        (None, True, "2.13.0+cpu", CPU),
        (None, False, "2.13.0+cu130", CPU),
        (CPU, True, "2.13.0", CPU),
        (CUDA, False, "2.13.0+cpu", CUDA),
    ],
)
def test_the_configuration_then_the_torch_that_runs_then_the_device_decide(monkeypatch, said, device, torch, expected):
    monkeypatch.setattr(compute, "has_cuda_device", lambda: device)
    running = Installation("3.11.7", {} if torch is None else {"torch": torch}, {})
    assert decide_compute(UserConfiguration(compute=said), running) is expected


def test_packages_for_cuda_are_told_by_name_and_build():
    harmless = {
        "nvidia-ml-py": "13.0",
        "nvidia-ml-py3": "7.3",
        "torch": "2.13.0+cpu",
        "tritonclient": "2",
        "numpy": "2",
    }
    assert cuda_packages(harmless) == []
    found = {
        "nvidia-cublas": "13.1",
        "nvidia-cutlass-dsl": "4.7",
        "triton": "3.7",
        "pytorch-triton": "3",
        "pytorch-triton-rocm": "3",
        "cuda-bindings": "13",
        "cupy-cuda13x": "14",
        "torch": "2.13.0+cu130",
        "torchvision": "1+rocm7.1",
    }
    assert cuda_packages(found) == [f"{name}=={version}" for name, version in found.items()]


def test_the_refusal_names_the_packages_and_the_remedy():
    refuse_cuda("acme", {"numpy": "2"}, Path("c.yaml"))
    packages = {f"nvidia-{index}": "1" for index in range(5)}
    with pytest.raises(PrerequisiteError) as caught:
        refuse_cuda("acme", packages, Path("c.yaml"))
    line = str(caught.value)
    assert "nvidia-0==1, nvidia-1==1, nvidia-2==1 and 2 more; nothing was downloaded; offer" in line
    assert line.endswith("or write `compute: cuda` in c.yaml")
