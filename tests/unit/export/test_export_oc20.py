"""The file of OC20's leaderboard, against what loops over the stored predictions say it must hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase.constraints import FixAtoms
from fake_runs import Fake, make_run
from plan_world import crystals

from mlipbench.errors import ConfigError, ResultsError
from mlipbench.export.oc20 import Prediction, arranged, export_oc20

if TYPE_CHECKING:
    from pathlib import Path

    from plan_world import World

SHORT = ("id", "ood_ads", "ood_cat", "ood_both")
SIDS = (7, 10, 9, 100, 8)  # whose order as strings is another one than as numbers


@pytest.fixture
def oc20(world: World) -> World:
    """Four splits in OC20's way: adsorption energies, atoms held fixed, structures named by sid and fid."""
    world.use_card()
    world.entry |= {
        "energy_reference": "adsorption",
        "free_atoms_only": True,
        "keys": {"energy": "energy", "forces": "forces", "id": ["sid", "fid"]},
        "splits": {f"val_{name}": {"files": [f"{name}.xyz"]} for name in SHORT},
        "fit_split": "val_id",
    }
    world.card["capabilities"]["energy_reference"] = "adsorption"
    world.suite["datasets"]["toy"]["splits"] = [f"val_{name}" for name in SHORT]
    for seed, name in enumerate(SHORT):
        frames = crystals(5, seed=seed, symbols="MgO2")
        for number, (atoms, sid) in enumerate(zip(frames, SIDS, strict=True)):
            atoms.info |= {"sid": sid, "fid": number}
            atoms.set_constraint(FixAtoms([number % 3] if number else [0, 1, 2]))
        world.write(name, frames)
    return world


def test_the_file_holds_what_the_leaderboard_takes(oc20: World, tmp_path: Path) -> None:
    run = make_run(oc20, Fake(forces=0.5, energy={"val_id": [0.1, 0.2, 0.3, 0.4, 0.5]}))
    output = tmp_path / "new" / "oc20.npz"
    assert export_oc20(run, output, oc20.location) == {f"val_{name}": 5 for name in SHORT}
    found = np.load(output)
    assert sorted(found.files) == sorted(f"{n}_{k}" for n in SHORT for k in ("ids", "energy", "forces", "chunk_idx"))
    for name in SHORT:
        rows = pq.read_table(run / f"predictions/s2ef/toy/val_{name}.parquet").to_pylist()
        by_name = {row["id"]: row for row in rows}
        names = sorted(f"{sid}_{number}" for number, sid in enumerate(SIDS))
        assert found[f"{name}_ids"].tolist() == names
        energies = [np.float16(by_name[one]["energy"]) for one in names]
        assert found[f"{name}_energy"].tolist() == energies
        forces, ends = [], []
        for one in names:
            number = int(one.split("_")[1])
            held = {number % 3} if number else {0, 1, 2}
            triples = np.array(by_name[one]["forces"]).reshape(3, 3)
            forces += [triples[atom] for atom in range(3) if atom not in held]
            ends.append(len(forces))
        assert found[f"{name}_forces"].tolist() == np.array(forces).astype(np.float16).tolist()
        assert found[f"{name}_chunk_idx"].tolist() == ends[:-1]
        assert [found[f"{name}_{key}"].dtype for key in ("energy", "forces", "chunk_idx")] == ["<f2", "<f2", "<i8"]
        parts = np.split(found[f"{name}_forces"], found[f"{name}_chunk_idx"])
        assert [len(part) for part in parts] == [0 if one.endswith("_0") else 2 for one in names]


def test_hidden_labels_are_no_obstacle(oc20: World, tmp_path: Path) -> None:
    labelled = make_run(oc20, Fake())
    export_oc20(labelled, tmp_path / "labelled.npz", oc20.location)
    oc20.entry["keys"] = {"energy": None, "forces": None, "id": ["sid", "fid"]}
    del oc20.entry["fit_split"]
    oc20.suite["tasks"]["s2ef"]["metrics"] = ["energy_mae", "forces_mae"]
    plan = oc20.plan()
    assert plan.runs[0].splits[0].request.properties == {"energy", "forces"}
    assert {cell.reason for cell in plan.runs[0].cells} == {"the labels hold no energy", "the labels hold no forces"}


def test_a_missing_prediction_is_named(oc20: World, tmp_path: Path) -> None:
    run = make_run(oc20, Fake(failed={"val_ood_cat": {3: "worker died"}}))
    with pytest.raises(ResultsError, match=r"there is no prediction of structure 100_3 \(worker died"):
        export_oc20(run, tmp_path / "oc20.npz", oc20.location)
    assert not (tmp_path / "oc20.npz").exists()


def test_a_part_of_a_split_is_refused(oc20: World, tmp_path: Path) -> None:
    run = make_run(oc20, Fake(), limit=3)
    with pytest.raises(ResultsError, match=r"only a part of val_id was predicted \(3 of 5, stratified, seed 0\)"):
        export_oc20(run, tmp_path / "oc20.npz", oc20.location)


def test_what_half_precision_does_not_hold_is_refused(oc20: World, tmp_path: Path) -> None:
    run = make_run(oc20, Fake(energy={"val_id": [7e4] * 5}))
    with pytest.raises(ResultsError, match="larger than half precision holds, 65504"):
        export_oc20(run, tmp_path / "oc20.npz", oc20.location)


def total(world: World) -> None:
    world.entry["energy_reference"] = "total"
    world.card["capabilities"]["energy_reference"] = "total"


CHANGES: dict[str, tuple[Any, str]] = {
    "total labels": (total, "takes adsorption energies, and the energies of toy are total energies"),
    "total model": (
        lambda world: world.card["capabilities"].update(energy_reference="total"),
        "takes adsorption energies, and the model's energies are total",
    ),
    "shift": (
        lambda world: world.suite["datasets"]["toy"].update(energy=[{"shift": "per_element"}]),
        "takes adsorption energies, and the suite shifts the energies of the model",
    ),
    "splits": (
        lambda world: world.suite["datasets"]["toy"].update(splits=["val_id"]),
        "takes four splits, test_id, test_ood_ads, test_ood_cat, test_ood_both, and the run lacks some",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_no_result_of_oc20_is_refused(oc20: World, tmp_path: Path, what: str) -> None:
    change, line = CHANGES[what]
    change(oc20)
    run = make_run(oc20, Fake())
    with pytest.raises(ConfigError, match=line):
        export_oc20(run, tmp_path / "oc20.npz", oc20.location)


def test_structures_stand_in_the_order_of_their_names() -> None:
    forces = np.arange(18.0).reshape(6, 3)
    found = arranged(Prediction(np.array(["b", "a", "c"]), np.array([1.0, 2.0, 3.0]), forces, np.array([2, 1, 3])))
    assert found["ids"].tolist() == ["a", "b", "c"]
    assert found["energy"].tolist() == [2.0, 1.0, 3.0]
    assert found["forces"][:, 0].tolist() == [6.0, 0.0, 3.0, 9.0, 12.0, 15.0]
    assert found["chunk_idx"].tolist() == [1, 3]
