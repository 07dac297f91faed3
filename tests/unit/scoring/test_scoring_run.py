"""Scoring of run directories that are made by hand, against loops over the same numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase.constraints import FixAtoms
from plan_world import crystals

from mlipbench.errors import DatasetError, ResultsError
from mlipbench.runner.record import first_manifest
from mlipbench.scoring import score_run
from mlipbench.status import Status
from mlipbench.store.predictions import PredictionBlock, SplitStore, State
from mlipbench.store.rundir import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from plan_world import World

    from mlipbench.plan import Plan
    from mlipbench.store.records import MetricRecord


@dataclass
class Fake:
    """A model whose predictions are the labels plus given errors."""

    energy: dict[str, list[float]] = field(default_factory=dict)
    forces: float = 0.25
    failed: dict[str, dict[int, str]] = field(default_factory=dict)
    declined: dict[str, dict[int, str]] = field(default_factory=dict)


def make_run(world: World, fake: Fake, *, status: Status = Status.OK, **selection: Any) -> Path:
    plan = world.plan(**selection)
    (run,) = plan.runs
    directory = RunDirectory(world.folder / "run")
    manifest = first_manifest(plan, run, "run", "2020-01-01T00:00:00+00:00", ())
    records = []
    for planned, record in zip(run.splits, manifest.splits, strict=True):
        lost = fake.failed.get(planned.split, {}) | fake.declined.get(planned.split, {})
        predict(plan, directory, planned, fake)
        failed = len(fake.failed.get(planned.split, {}))
        counts = {
            "n_failed": failed,
            "n_predicted": planned.n_structures - len(lost),
            "n_not_applicable": len(lost) - failed,
            "status": Status.PARTIAL if failed else Status.OK,
            "reason": next(iter(fake.failed.get(planned.split, {}).values()), None),
        }
        records.append(record.model_copy(update=counts))
    directory.write_manifest(manifest.model_copy(update={"splits": records, "status": status}))
    return directory.path


def predict(plan: Plan, directory: RunDirectory, planned: Any, fake: Fake) -> None:
    data = plan.datasets[planned.dataset].splits[planned.split]
    n = planned.n_structures
    structures, labels = data.structures(0, n), data.labels(0, n)
    state = np.full(n, State.OK)
    state[list(fake.failed.get(planned.split, {}))] = State.FAILED
    state[list(fake.declined.get(planned.split, {}))] = State.NOT_APPLICABLE
    lost = state != State.OK
    errors = fake.energy.get(planned.split, [0.0] * n)
    energy = np.where(lost, np.nan, labels.energy + np.array(errors[:n]))
    assert labels.forces is not None
    forces = np.where(np.repeat(lost, structures.counts)[:, None], np.nan, labels.forces + fake.forces)
    reasons = fake.failed.get(planned.split, {}) | fake.declined.get(planned.split, {})
    columns = {"energy": energy, "forces": forces.astype(np.float32)}
    block = PredictionBlock(structures.offsets, columns, state, reasons)
    path = directory.predictions(planned.task, planned.dataset, planned.split)
    store = SplitStore(path, structures.counts, np.array([0, n]), planned.task)
    store.commit(0, block, [])
    store.finish(data.names)


def metric(records: list[MetricRecord], name: str, split: str = "val") -> MetricRecord:
    (found,) = [record for record in records if (record.metric, record.split) == (name, split)]
    return found


@pytest.fixture
def model(world: World) -> World:
    world.use_card()
    return world


def test_energy_errors_are_averaged_as_by_hand(model: World) -> None:
    run = make_run(model, Fake(energy={"val": [0.1, -0.2, 0.3, 0.0, -0.5]}))
    records = score_run(run, model.location)
    assert metric(records, "energy_mae").value == pytest.approx(1.1 / 5)
    assert metric(records, "energy_rmse").value == pytest.approx(np.sqrt((0.01 + 0.04 + 0.09 + 0.25) / 5))
    assert metric(records, "energy_per_atom_mae").value == pytest.approx(1.1 / 10)
    assert metric(records, "forces_mae").value == pytest.approx(0.25, abs=1e-6)
    found = metric(records, "energy_mae")
    assert (found.n, found.n_failed, found.status, found.unit) == (5, 0, Status.OK, "eV")


@pytest.mark.parametrize("free_only", [True, False])
def test_force_errors_of_free_atoms_are_those_of_a_loop(model: World, *, free_only: bool) -> None:
    model.entry["free_atoms_only"] = free_only
    frames: list[Atoms] = crystals(9, seed=4, symbols="MgO2")
    for i, atoms in enumerate(frames[:-1]):
        atoms.set_constraint(FixAtoms(indices=sorted({i % 3, 2})))
    model.write("val", frames)
    run = make_run(model, Fake(forces=0.5))
    stored = pq.read_table(run / "predictions/s2ef/toy/val.parquet")["forces"].to_pylist()
    total, count, magnitudes = 0.0, 0, []
    for atoms, flat in zip(frames, stored, strict=True):
        labels = np.round(atoms.calc.results["forces"], 8)  # as extxyz writes them
        fixed = set(atoms.constraints[0].index) if atoms.constraints and free_only else set()
        for atom in range(3):
            if atom not in fixed:
                predicted = np.array(flat[3 * atom : 3 * atom + 3])
                total += float(np.abs(predicted - labels[atom]).sum())
                count += 3
                magnitudes.append(abs(np.linalg.norm(predicted) - np.linalg.norm(labels[atom])))
    records = score_run(run, model.location)
    assert metric(records, "forces_mae").value == pytest.approx(total / count, abs=1e-6)
    assert metric(records, "forces_magnitude_error").value == pytest.approx(np.mean(magnitudes), abs=1e-6)
    scores = pq.read_table(run / "scores/s2ef/toy/val.parquet")
    assert sum(scores["n_free"].to_pylist()) * 3 == count


def test_failed_and_declined_structures_are_counted_apart(model: World) -> None:
    fake = Fake({"val": [1.0, 2.0, 3.0, 4.0, 5.0]}, failed={"val": {1: "worker died"}}, declined={"val": {4: "no Xe"}})
    records = score_run(make_run(model, fake), model.location)
    found = metric(records, "energy_mae")
    assert found.value == pytest.approx((1 + 3 + 4) / 3)
    assert (found.n, found.n_failed, found.status) == (3, 1, Status.PARTIAL)
    assert found.reason is not None
    assert "1 of 5 structures failed: worker died" in found.reason
    assert "not applicable to 1 structures: no Xe" in found.reason


def test_declined_structures_alone_are_no_failure(model: World) -> None:
    records = score_run(make_run(model, Fake(declined={"val": {0: "no Xe", 2: "no Xe"}})), model.location)
    found = metric(records, "forces_mae")
    assert (found.n, found.n_failed, found.status) == (3, 0, Status.OK)
    assert found.reason is not None
    assert "not applicable to 2 structures: no Xe" in found.reason


def test_scoring_twice_gives_the_same_bytes(model: World) -> None:
    model.write("val", crystals(12, seed=8))
    run = make_run(model, Fake({"val": list(np.linspace(-1, 2, 12))}))
    first = score_run(run, model.location)
    files = [run / "metrics.json", run / "scores/s2ef/toy/val.parquet"]
    before = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    assert score_run(run, model.location) == first
    assert [path.read_bytes() for path in files] == before
    found = metric(first, "energy_mae")
    assert found.ci_low is not None
    assert found.value is not None
    assert found.ci_high is not None
    assert found.ci_low < found.value < found.ci_high


def test_shift_is_fitted_on_its_split_and_added_to_predictions(model: World) -> None:
    model.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    # every structure is MgO; errors of 3 + -1 on the fit split have the mean 2, which is taken off everywhere
    fake = Fake({"train": [3.0, 1.0, 3.0, 1.0, 3.0, 1.0], "val": [2.0, 2.0, 2.5, 2.0, 2.0]})
    run = make_run(model, fake)
    records = score_run(run, model.location)
    assert metric(records, "energy_mae").value == pytest.approx(0.1)
    assert metric(records, "energy_mae").conversion == "per-element shift fitted on train"
    stored = json.loads((run / "conversions/toy.json").read_text())
    assert stored["ev_per_atom"] == pytest.approx({"O": -1.0, "Mg": -1.0})
    assert (stored["n_structures"], stored["rmse_ev"]) == (6, pytest.approx(1.0))


def test_compositions_outside_the_fitted_span_are_left_out_and_said(model: World) -> None:
    model.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    model.write("val", [*crystals(3, seed=1), *crystals(2, seed=2, symbols="MgO2")])
    records = score_run(make_run(model, Fake({"val": [1.0, 1.0, 1.0, 50.0, 50.0]})), model.location)
    found = metric(records, "energy_mae")
    assert (found.value, found.n) == (pytest.approx(1.0), 3)
    assert found.reason is not None
    assert "the energy shift is not determined for 2 structures, which are left out" in found.reason
    assert metric(records, "forces_mae").n == 5


def test_limited_run_is_scored_on_what_it_took(model: World) -> None:
    run = make_run(model, Fake({"val": [1.0, 3.0, 100.0, 100.0, 100.0]}), limit=2)
    assert metric(score_run(run, model.location), "energy_mae").value == pytest.approx(2.0)


def with_references(world: World) -> None:
    """Let every structure of val refer to both structures of refs, with the coefficients 1 and 0.5."""
    world.entry["references"] = {"split": "refs", "map": "refs.json"}
    world.entry["cluster"] = "key"
    world.entry["keys"] |= {"id": "name", "cluster": "system"}
    for split, count in (("train", 6), ("val", 3), ("refs", 2)):
        frames = crystals(count, seed=count)
        for i, atoms in enumerate(frames):
            atoms.info |= {"name": f"{split}{i}", "system": f"sys{i}"}
        world.write(split, frames)
    systems = {f"sys{i}": {"refs0": 1.0, "refs1": 0.5} for i in range(3)}
    (world.folder / "data/refs.json").write_text(json.dumps({"systems": systems}))


def test_adsorption_energies_are_formed_from_the_model_s_own_references(model: World) -> None:
    with_references(model)
    fake = Fake({"val": [0.5, 0.6, 1.0], "refs": [0.2, 0.4]})  # 0.5 - 0.2 - 0.2 and so on
    records = score_run(make_run(model, fake), model.location)
    found = metric(records, "adsorption_energy_mae_self")
    assert found.value == pytest.approx((0.1 + 0.2 + 0.6) / 3)
    assert (found.n, found.status) == (3, Status.OK)


def test_failed_reference_leaves_no_adsorption_energy_and_says_so(model: World) -> None:
    with_references(model)
    records = score_run(make_run(model, Fake(failed={"refs": {1: "crash"}})), model.location)
    found = metric(records, "adsorption_energy_mae_self")
    assert (found.value, found.n, found.status) == (None, 0, Status.FAILED)
    assert found.reason is not None
    assert "3 structures have no adsorption energy, because a reference has no prediction" in found.reason
    assert metric(records, "energy_mae").status is Status.OK


def test_declined_reference_is_no_failure(model: World) -> None:
    with_references(model)
    records = score_run(make_run(model, Fake(declined={"refs": {1: "no Xe"}})), model.location)
    assert metric(records, "adsorption_energy_mae_self").status is Status.NOT_APPLICABLE


def test_unfinished_run_is_refused(model: World) -> None:
    run = make_run(model, Fake(), status=Status.RUNNING)
    with pytest.raises(ResultsError, match="this run is not finished; give the command that began it again"):
        score_run(run, model.location)


def test_other_data_are_refused(model: World) -> None:
    run = make_run(model, Fake())
    model.write("val", crystals(5, seed=55))
    with pytest.raises(ResultsError, match="the data of toy/val are not those this run was made with"):
        score_run(run, model.location)


def test_another_map_of_references_is_refused(model: World) -> None:
    with_references(model)
    run = make_run(model, Fake())
    path = model.folder / "data/refs.json"
    path.write_text(path.read_text().replace("0.5", "0.25"))
    with pytest.raises(ResultsError, match="the data of toy's references are not those this run was made with"):
        score_run(run, model.location)


def test_predictions_of_other_structures_are_refused(model: World) -> None:
    run = make_run(model, Fake())
    path = run / "predictions/s2ef/toy/val.parquet"
    pq.write_table(pq.read_table(path).slice(0, 4), path)
    with pytest.raises(ResultsError, match="predictions of 4 structures, expected 5"):
        score_run(run, model.location)


def test_missing_predictions_are_refused(model: World) -> None:
    run = make_run(model, Fake())
    (run / "predictions/s2ef/toy/val.parquet").unlink()
    with pytest.raises(ResultsError, match="there is no such file"):
        score_run(run, model.location)


@pytest.mark.chgnet
@pytest.mark.filterwarnings("ignore")
def test_mp2020_correction_is_the_published_one(model: World) -> None:
    pytest.importorskip("pymatgen", reason="pymatgen is not installed")
    from ase.build import bulk

    from mlipbench.scoring.corrections import mp2020_correction

    # Wang et al., Sci. Rep. 11, 15496 (2021): O in oxides -0.687 eV, Fe with a U -2.256 eV; copper is not corrected
    model.write("val", labelled([bulk("MgO", "rocksalt", a=4.2), bulk("FeO", "rocksalt", a=4.3), bulk("Cu")]))
    split = model.plan().datasets["toy"].splits["val"]
    assert mp2020_correction(split, 3) == pytest.approx([-0.687, -0.687 - 2.256, 0.0], abs=1e-6)
    assert mp2020_correction(split, 1) == pytest.approx([-0.687], abs=1e-6)


@pytest.mark.chgnet
@pytest.mark.filterwarnings("ignore")
def test_structure_that_mp2020_does_not_cover_is_named(model: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymatgen", reason="pymatgen is not installed")
    from ase.build import bulk
    from pymatgen.entries import compatibility

    from mlipbench.scoring.corrections import mp2020_correction

    def refuse(*_: object) -> None:
        raise compatibility.CompatibilityError("no such thing")

    monkeypatch.setattr(compatibility.MaterialsProject2020Compatibility, "get_adjustments", refuse)
    model.write("val", labelled([bulk("Cu")]))
    with pytest.raises(DatasetError, match="structure 0: the mp2020 correction does not cover this structure"):
        mp2020_correction(model.plan().datasets["toy"].splits["val"], 1)


def labelled(frames: list[Atoms]) -> list[Atoms]:
    from ase.calculators.singlepoint import SinglePointCalculator

    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=-5.0, forces=np.zeros((len(atoms), 3)))
    return frames
