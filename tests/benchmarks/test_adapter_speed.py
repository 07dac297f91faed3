"""MACE, fairchem-core 1 and fairchem-core 2: structures per second of the adapter and of the package's calculator.

Each family runs in its own environment. The models are small, with random weights, so that what an adapter adds shows.
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from pathlib import Path

import pytest
from adapter_speed import compare

from mlipbench.models.interface import LoadRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # the makers of checkpoints

KEEPS_UP = 0.95  # of the calculator's speed, which is as close as two equal loops are timed

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def release(package: str, start: str) -> None:
    """Skip where a package is not installed in the release needed."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if not found.startswith(start):
        pytest.skip(f"needs {package} {start}, found {found}")


@pytest.mark.mace
def test_mace(benchmark, tmp_path, monkeypatch):
    release("mace-torch", "0.3")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn and the calculator load in no other way
    from mace_checkpoints import save_mace

    from mlipbench.adapters.mace import MaceAdapter

    path = str(save_mace(tmp_path / "tiny.model"))
    adapter = MaceAdapter.load(LoadRequest(dtype="float32", checkpoint=path))
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=path, device="cpu", default_dtype="float32")
    assert compare(benchmark, adapter, calculator) > KEEPS_UP


@pytest.mark.fairchem_v1
@pytest.mark.parametrize("name", ["gemnet-dt", "gemnet-t", "gemnet-oc", "painn", "schnet"])
def test_fairchem_v1(benchmark, tmp_path, name):
    release("fairchem-core", "1.")
    from mlipbench.adapters import fairchem_v1

    fairchem_v1._import_package()
    from fairchem.core.common.relaxation.ase_utils import OCPCalculator
    from fairchem_v1_checkpoints import save_checkpoint

    path = save_checkpoint(tmp_path / f"{name}.pt", name)
    adapter = fairchem_v1.FairchemV1Adapter.load(LoadRequest(dtype="float32", checkpoint=str(path)))
    assert compare(benchmark, adapter, OCPCalculator(checkpoint_path=path, cpu=True, seed=0)) > KEEPS_UP


@pytest.mark.fairchem
def test_fairchem(benchmark, tmp_path):
    release("fairchem-core", "2.")
    from fairchem.core import FAIRChemCalculator
    from fairchem.core.units.mlip_unit import load_predict_unit
    from fairchem_checkpoints import save_checkpoint

    from mlipbench.adapters.fairchem import FairchemAdapter

    path = save_checkpoint(tmp_path / "uma.pt", "uma")
    adapter = FairchemAdapter.load(LoadRequest(dtype="float32", checkpoint=str(path), kwargs={"task_name": "oc20"}))
    unit = load_predict_unit(path, inference_settings=adapter.settings, device="cpu")
    assert compare(benchmark, adapter, FAIRChemCalculator(unit, task_name="oc20")) > KEEPS_UP
