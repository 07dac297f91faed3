"""The seam between a job and another package's trainer, with a toy in the package's place."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bridge_toys import SHIFTS, STIFFNESS, LearnedSpringAdapter, job_for, molecules, save, springs, write_job

from mlipbench.checkpoint import LOG_FILE, RECORD_FILE, read_checkpoint
from mlipbench.errors import ConfigError, PrerequisiteError, WorkerError
from mlipbench.recipe import EVENTS_FILE, Trainer
from mlipbench.training.bridges import bridge
from mlipbench.training.bridges.bridge import Material
from mlipbench.training.bridges.drive import train_bridged
from mlipbench.training.main import main
from mlipbench.trusted import admit

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.models.interface import Predictions
    from mlipbench.structures.columnar import Split


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return save(tmp_path / "columns")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / EVENTS_FILE).read_text().splitlines()]


def test_a_training_leaves_a_checkpoint_judged_by_the_adapter(split: Split, folder: Path) -> None:
    record = train_bridged(job_for(split), folder, springs())
    assert record == read_checkpoint(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([EVENTS_FILE, LOG_FILE, RECORD_FILE, "model.pt"])
    weights = (folder / "model.pt").read_bytes()
    assert record.weights_sha256 == hashlib.sha256(weights).hexdigest()
    learned = json.loads(weights)["stiffness"]
    assert learned == pytest.approx(STIFFNESS, rel=0.05)
    assert (record.trainer, record.net, record.elements) == (Trainer.MACE, "springs", (1, 8))
    assert record.settings == {"arguments": {"rate": 0.1}}
    assert [point.step for point in record.curve] == [20, 40, 60]
    rows = list(csv.DictReader((folder / LOG_FILE).read_text().splitlines()))
    assert [(row["step"], row["epoch"]) for row in rows] == [("20", str(20 / 3)), ("40", str(40 / 3)), ("60", "20.0")]
    # by hand: the reference is that of the labels, so that what is left is the error of the stiffness
    structures, labels = molecules()
    held_out = slice(structures.offsets[9], structures.offsets[-1])
    error = np.abs(labels.forces[held_out] * (1.0 - learned / STIFFNESS)).sum(axis=1)
    free = ~structures.fixed[held_out]
    (candidate,) = record.candidates
    assert candidate.forces_mae == pytest.approx(error[free].sum() / (3 * free.sum()), rel=1e-9)
    assert record.verdict.zero_forces_mae == pytest.approx(np.abs(labels.forces[held_out][free]).mean())
    assert record.verdict.trained
    assert record.verdict.ratio == pytest.approx(1.0 - learned / STIFFNESS, rel=1e-9)


def test_structures_that_the_package_refuses_are_left_out_of_the_verdict(
    split: Split, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LearnedSpringAdapter.forward

    def forward(self: LearnedSpringAdapter, prepared: Any, properties: Any) -> Predictions:
        found = whole(self, prepared, properties)
        small = np.flatnonzero(prepared.counts == 3)
        found.energy[small] = np.nan
        found.forces[np.repeat(prepared.counts == 3, prepared.counts)] = np.nan
        return replace(found, not_applicable=dict.fromkeys(small.tolist(), "too small"))

    monkeypatch.setattr(LearnedSpringAdapter, "forward", forward)
    record = train_bridged(job_for(split), folder, springs())
    assert record.settings["not_judged"] == {"too small": 15}  # of the structures 9 to 39, the even ones
    assert record.verdict.n_structures == 16
    structures, labels = molecules()
    large = np.repeat(structures.counts == 4, structures.counts)
    large[: structures.offsets[9]] = False
    assert record.verdict.zero_forces_mae == pytest.approx(np.abs(labels.forces[large & ~structures.fixed]).mean())


def test_labels_are_those_of_the_split_without_the_energy_reference(split: Split) -> None:
    material = Material.of(job_for(split))
    structures, labels = molecules()
    values = material.reference.per_element
    composition = np.stack([np.add.reduceat(structures.numbers == z, structures.offsets[:-1]) for z in SHIFTS], axis=1)
    expected = labels.energy - composition @ np.array([values[z] for z in SHIFTS])
    np.testing.assert_allclose(material.train_targets, expected[:9], rtol=0, atol=1e-12)
    np.testing.assert_allclose(material.validation_targets, expected[9:], rtol=0, atol=1e-12)
    solution = np.linalg.lstsq(composition[:9], labels.energy[:9], rcond=None)[0]
    np.testing.assert_allclose([values[z] for z in SHIFTS], solution, rtol=1e-12)


def test_the_best_learning_rate_of_the_grid_is_kept(split: Split, folder: Path) -> None:
    record = train_bridged(job_for(split, learning_rates=[0.001, 0.1, 0.01]), folder, springs())
    assert record.learning_rate == 0.1
    assert [candidate.learning_rate for candidate in record.candidates] == [0.001, 0.1, 0.01]
    errors = [candidate.forces_mae for candidate in record.candidates]
    assert errors[1] < errors[2] < errors[0]
    assert record.settings == {"arguments": {"rate": 0.1}}


def test_a_training_that_was_killed_goes_on_where_the_package_can(split: Split, folder: Path) -> None:
    job = job_for(split, learning_rates=[0.1, 0.01])
    with pytest.raises(KeyboardInterrupt):
        train_bridged(job, folder, springs(stop_at=50))
    with pytest.raises(KeyboardInterrupt):
        train_bridged(job, folder, springs(stop_at=30))
    again = springs()
    record = train_bridged(job, folder, again)
    assert again.seen == [(0.01, 20)]  # the first learning rate was finished by the second process
    assert [point.step for point in record.curve] == [20, 40, 60]
    begun = [(event["learning_rate"], event.get("step", 0)) for event in events(folder) if event["kind"] == "begin"]
    assert begun == [(0.1, 0), (0.1, 40), (0.01, 0), (0.01, 20)]
    whole = folder.parent / "whole"
    whole.mkdir()
    train_bridged(job, whole, springs())
    assert (whole / "model.pt").read_bytes() == (folder / "model.pt").read_bytes()


def test_a_finished_training_is_only_reported(split: Split, folder: Path) -> None:
    record = train_bridged(job_for(split), folder, springs())
    again = springs()
    assert train_bridged(job_for(split), folder, again) == record
    assert again.seen == []
    with pytest.raises(ConfigError, match="the folder holds another checkpoint"):
        train_bridged(job_for(split, identity="1" * 64), folder, again)


def test_a_learning_rate_whose_loss_is_no_number_is_left_out(split: Split, folder: Path) -> None:
    record = train_bridged(job_for(split, learning_rates=[0.5, 0.1]), folder, springs(blow_up=frozenset({0.5})))
    assert [candidate.learning_rate for candidate in record.candidates] == [0.1]
    lost = [event for event in events(folder) if event.get("exit_code")]
    assert [event["text"] for event in lost] == [
        "lost: learning rate 0.5, step 1: the loss is NaN or infinite; lower the learning rate"
    ]


def test_all_learning_rates_lost_is_an_error(split: Split, folder: Path) -> None:
    bad = springs(blow_up=frozenset({0.5, 0.1}))
    with pytest.raises(WorkerError, match=r"every learning rate diverged; the last one: learning rate 0\.1, step 1: "):
        train_bridged(job_for(split, learning_rates=[0.5, 0.1]), folder, bad)
    again = springs()
    with pytest.raises(WorkerError, match="every learning rate diverged"):
        train_bridged(job_for(split, learning_rates=[0.5, 0.1]), folder, again)
    assert again.seen == []


def test_the_state_of_another_training_is_refused(split: Split, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_bridged(job_for(split), folder, springs(stop_at=30))
    with pytest.raises(ConfigError, match="the state belongs to another training; delete the folder"):
        train_bridged(job_for(split, identity="1" * 64), folder, springs())
    (path,) = folder.glob("states/*/progress.json")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ConfigError, match="the state of the training is damaged"):
        train_bridged(job_for(split), folder, springs())


@pytest.mark.parametrize("part", ["train", "validation"])
def test_data_without_forces_are_refused_where_the_package_needs_them(split: Split, part: str) -> None:
    job = job_for(split)
    whole = Material.of(job)
    material = replace(whole, **{part: replace(getattr(whole, part), forces=None)})
    springs()(job, material)
    with pytest.raises(ConfigError, match="recipe tiny: split 'train' has no forces, and the trainer mace needs them"):
        springs(needs_forces=True)(job, material)


def test_weights_made_here_need_no_consent(split: Split, folder: Path) -> None:
    record = train_bridged(job_for(split), folder, springs())
    admit(folder / "model.pt", record.weights_sha256, trust=False)
    with pytest.raises(PrerequisiteError, match=r"is a pickle, which can run any code, .*--trust"):
        admit(folder / "model.pt", "1" * 64, trust=False)


def test_a_missing_package_is_named(split: Split, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "BRIDGES", {Trainer.MACE: "not_installed.at_all:Bridge"})
    path = write_job(folder / "job", job_for(split))
    with pytest.raises(SystemExit) as ended:
        main([str(path)])
    assert ended.value.code == 4
    (error,) = events(path.parent)
    assert error["text"] == "training by mace needs the module not_installed; install the environment of mace"
    assert error["exit_code"] == 4


def test_the_training_process_finds_the_bridge_of_the_job(
    split: Split, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge_toys.FOUND", springs(), raising=False)
    monkeypatch.setattr(bridge, "BRIDGES", {Trainer.MACE: "bridge_toys:FOUND"})
    path = write_job(folder / "job", job_for(split))
    with pytest.raises(SystemExit) as ended:
        main([str(path)])
    assert ended.value.code == 0
    assert read_checkpoint(path.parent).verdict.trained
    assert events(path.parent)[-1]["kind"] == "done"
