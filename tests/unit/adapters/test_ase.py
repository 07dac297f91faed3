"""Any ASE calculator by card."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from mlipbench.adapters.ase import AseAdapter
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.models.registry import load_card
from mlipbench.structures import StructureBatch

ALL = frozenset(Property)
BOTH = frozenset({Property.ENERGY, Property.FORCES})


class Counting(Calculator):
    """Its energy is how often it was called."""

    implemented_properties = ("energy", "forces")

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.calls = start

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.results = {"energy": float(self.calls), "forces": np.zeros((len(atoms), 3))}


class Told(Counting):
    """Keeps what it is told."""

    def __init__(self, **told: object) -> None:
        super().__init__()
        self.told = told


def danger() -> None:
    raise AssertionError("called before it was checked")


def load(calculator: str, **arguments: object) -> AseAdapter:
    return AseAdapter.load(LoadRequest(kwargs={"calculator": calculator, "arguments": arguments}))


@pytest.fixture(scope="module")
def emt():
    return AseAdapter.load(LoadRequest(kwargs=load_card("emt").kwargs))


def emt_frames() -> list[Atoms]:
    rng = np.random.default_rng(0)
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    slab.set_constraint(FixAtoms([0, 1, 2]))
    alloy = bulk("Au", cubic=True) * (2, 1, 1)
    alloy.numbers[::3] = 29
    left = bulk("Al")
    left.set_cell(left.cell.array[[1, 0, 2]])
    outside = bulk("Ni", cubic=True)
    outside.positions += [[10, 0, -9]] * 4
    frames = [slab, alloy, left, outside]
    for atoms in frames:
        atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
    return frames


def test_equals_emt_one_by_one(emt):
    frames = emt_frames()
    batch = StructureBatch.from_atoms(frames)
    found = emt.predict(batch, ALL)
    for s, atoms in enumerate(frames):
        atoms.calc = EMT()
        assert found.energy[s] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        span = slice(batch.offsets[s], batch.offsets[s + 1])
        np.testing.assert_allclose(found.forces[span], atoms.get_forces(apply_constraint=False), atol=1e-12)
        np.testing.assert_allclose(found.stress[s], atoms.get_stress(apply_constraint=False), atol=1e-12)


def test_molecules_and_single_atoms_have_energy_and_forces_but_no_stress(emt):
    batch = StructureBatch.from_atoms([molecule("CO"), Atoms("Cu"), bulk("Cu")])
    found = emt.predict(batch, BOTH)
    assert np.isfinite(found.energy).all()
    np.testing.assert_allclose(found.forces[2:], 0, atol=1e-12)
    with_stress = emt.predict(batch, ALL)
    assert set(with_stress.not_applicable) == {0, 1}
    assert np.isnan(with_stress.energy[:2]).all()
    assert np.isfinite(with_stress.stress[2]).all()


def test_computes_equal_structures_afresh():
    adapter = load(f"{__name__}:Counting")
    batch = StructureBatch.from_atoms([Atoms("H"), Atoms("H")])
    assert adapter.predict(batch, BOTH).energy.tolist() == [1.0, 2.0]
    assert adapter.predict(batch, BOTH).energy.tolist() == [3.0, 4.0]


def test_arguments_reach_the_calculator():
    assert load(f"{__name__}:Counting", start=5).predict(StructureBatch.from_atoms([Atoms("H")]), BOTH).energy == [6.0]


def request(kind: str = "Told", arguments: dict[str, object] | None = None, **fields: object) -> LoadRequest:
    kwargs = {"calculator": f"{__name__}:{kind}", "arguments": arguments or {}, **fields.pop("kwargs", {})}
    return LoadRequest(kwargs=kwargs, **fields)


def test_what_card_and_row_say_reaches_the_arguments_that_the_card_names():
    passed = {"checkpoint": "model", "device": "place", "dtype": "precision"}
    row = {"checkpoint": "small", "device": "cuda:1", "dtype": "float32"}
    adapter = AseAdapter.load(request(arguments={"colour": "red"}, kwargs={"pass": passed}, **row))
    assert adapter.calculator.told == {"colour": "red", "model": "small", "place": "cuda:1", "precision": "float32"}
    adapter = AseAdapter.load(request(kwargs={"pass": {"device": "place"}}, device="cuda:1", dtype="float32"))
    assert adapter.calculator.told == {"place": "cuda:1"}
    assert AseAdapter.load(request(device="cuda:1", dtype="float32")).calculator.told == {}


def test_a_file_may_have_a_checksum_which_the_plan_compares():
    row = {"checkpoint": "/data/my.model", "sha256": "0" * 64}
    adapter = AseAdapter.load(request(kwargs={"pass": {"checkpoint": "model"}}, **row))
    assert adapter.calculator.told == {"model": "/data/my.model"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kwargs": {"pass": {"seed": "seed"}}}, "no mapping of checkpoint, device, dtype"),
        ({"kwargs": {"pass": ["device"]}}, "no mapping of checkpoint, device, dtype"),
        (
            {"kwargs": {"pass": {"device": "place"}}, "arguments": {"place": "cpu"}},
            "'place' stands in kwargs.pass, too",
        ),
        ({"checkpoint": "small"}, "no argument takes the card's checkpoint"),
        ({"kwargs": {"pass": {"checkpoint": "model"}}}, "the card has no checkpoint to pass"),
        (
            {"kwargs": {"pass": {"checkpoint": "model"}}, "checkpoint": "small", "sha256": "0" * 64},
            "nobody here knows which file the calculator takes for the name 'small'",
        ),
    ],
)
def test_refuses_what_would_not_reach_the_calculator(fields, problem):
    with pytest.raises(ConfigError, match=problem):
        AseAdapter.load(request(**fields))


def test_a_structure_without_atoms_is_declined_and_the_calculator_not_asked():
    found = load(f"{__name__}:Counting").predict(StructureBatch.from_atoms([Atoms("H"), Atoms(), Atoms("H")]), BOTH)
    assert found.not_applicable == {1: "the structure holds no atoms"}
    assert found.energy[[0, 2]].tolist() == [1.0, 2.0]
    assert np.isnan(found.energy[1])
    assert found.forces.shape == (2, 3)


def test_refuses_a_property_the_calculator_lacks():
    with pytest.raises(ConfigError, match="does not predict stress"):
        load(f"{__name__}:Counting").predict(StructureBatch.from_atoms([Atoms("H")]), ALL)


@pytest.mark.parametrize(
    ("target", "error", "problem"),
    [
        (f"{__name__}:danger", ConfigError, "no subclass"),
        ("os:system", ConfigError, "no subclass"),
        ("ase.calculators.emt:Nothing", ConfigError, "no subclass"),
        ("ase.calculators.emt", ConfigError, "module:Class"),
        ("no_such_package:Calculator", PrerequisiteError, "cannot be imported"),
    ],
)
def test_refuses_what_is_no_calculator_without_calling_it(target, error, problem):
    with pytest.raises(error, match=problem):
        load(target)


def test_refuses_arguments_that_do_not_fit():
    with pytest.raises(ConfigError, match="refuses its arguments"):
        load(f"{__name__}:Counting", colour="red")
    with pytest.raises(ConfigError, match="'model'"):
        AseAdapter.load(LoadRequest(kwargs={"calculator": "ase.calculators.emt:EMT", "model": 1}))


def test_an_empty_batch_gives_empty_arrays(emt):
    found = emt.predict(StructureBatch.from_atoms([]), ALL)
    assert found.energy.shape == (0,)
    assert found.forces.shape == (0, 3)
    assert found.stress.shape == (0, 6)
