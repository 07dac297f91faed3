"""SevenNet, by the card of the example package alone, against the package's own calculator."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sevenn", reason="needs the package sevenn")
pytestmark = [
    pytest.mark.sevennet,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what the package and e3nn say of the package's own code
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

import torch  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import molecule  # noqa: E402
from model_frames import ALL, MOST, assert_close, expected, periodic, rattled, slab  # noqa: E402

from mlipbench.adapters.ase import AseAdapter  # noqa: E402
from mlipbench.conformance.catalogue import CHECKS, run_check  # noqa: E402
from mlipbench.models.interface import LoadRequest  # noqa: E402
from mlipbench.models.registry import card_names, load_card  # noqa: E402
from mlipbench.status import CheckStatus  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402
from mlipbench.testing.conformance import load_subject  # noqa: E402

CARD = "sevennet-0"
if CARD not in card_names():
    pytest.skip("needs the package mlipbench-sevennet, which is in examples", allow_module_level=True)


@pytest.fixture(scope="module")
def subject():
    return load_subject(CARD, calls=400)


@pytest.fixture(scope="module")
def calculator():
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator("7net-0", device="cpu")


def molecules() -> list[Atoms]:
    moved = molecule("CH3CH2OH")
    moved.positions += [40.0, -3.0, 8.0]
    return [molecule("CH3CH2OH"), moved, molecule("CO"), Atoms("N"), slab(pbc=False)]


def test_predictions_equal_the_calculators(subject, calculator):
    frames = [*periodic().values(), *molecules()]
    batch = StructureBatch.from_atoms(frames)
    found = subject.adapter.predict(batch, MOST)
    assert not found.not_applicable
    assert found.energy.dtype == found.forces.dtype == np.float64
    assert np.abs(found.forces).max() > 1.0
    for index, atoms in enumerate(frames):
        assert_close(found, batch, index, *expected(calculator, atoms), tolerance=0.1)


def test_the_stress_equals_the_calculators(subject, calculator):
    frames = list(periodic().values())
    found = subject.adapter.predict(StructureBatch.from_atoms(frames), ALL)
    for index, atoms in enumerate(frames):
        atoms.calc = calculator
        np.testing.assert_allclose(found.stress[index], atoms.get_stress(), rtol=0, atol=1e-7)
    assert np.abs(found.stress).max() > 1e-2


def test_the_card_says_what_the_checkpoint_holds(subject, calculator):
    declared = load_card(CARD).declared()
    assert declared.elements == {int(number) for number in calculator.type_map}
    assert declared.cutoff == pytest.approx(float(calculator.cutoff))
    weights = {parameter.dtype for parameter in subject.adapter.module().parameters()}
    assert {f"torch.{name}" for name in declared.dtypes} == {str(dtype) for dtype in weights}
    assert torch.get_default_dtype() == torch.float32


def test_the_card_of_ones_own_weights_names_their_file(subject, tmp_path):
    """Those of the package under another name stand in for some that were fine-tuned."""
    from sevenn.util import pretrained_name_to_path

    path = tmp_path / "mine.pth"
    path.symlink_to(pretrained_name_to_path("7net-0"))
    mine = AseAdapter.load(LoadRequest(dtype="float32", checkpoint=str(path), kwargs=load_card(CARD).kwargs))
    batch = StructureBatch.from_atoms([slab()])
    assert mine.predict(batch, MOST).energy == subject.adapter.predict(batch, MOST).energy


def test_the_packages_own_calculator_tells_mirror_images_apart(calculator):
    """Products that rotations allow and mirrors do not are left where no irrep has a parity."""
    assert calculator.sevennet_config["is_parity"] is False
    atoms = rattled(molecule("CH3CH2OH"))
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    _, forces = expected(calculator, atoms)
    misses = []
    for matrix in (turn, turn @ np.diag([1.0, 1.0, -1.0])):
        moved = atoms.copy()
        moved.positions = atoms.positions @ matrix.T
        misses.append(np.abs(expected(calculator, moved)[1] @ matrix - forces).max())
    assert misses[0] < 1e-4
    assert misses[1] > 5e-3


@pytest.mark.parametrize("name", CHECKS)
def test_sevennet_fails_no_check_but_that_of_mirror_images(name, subject):
    result = run_check(name, subject)
    assert result.status is (CheckStatus.FAILED if name == "reflection" else CheckStatus.PASSED), result
