# ruff: noqa: E402 - torch first
"""Whole trainings of the toy network: what they leave, how they go on, and how they end when they must."""

from __future__ import annotations

import csv
import errno
import json
import math
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("toy")]

import training_helpers
from training_helpers import clusters_of_atoms, job_for, lennard_jones, save

from mlipbench.checkpoint import LOG_FILE, RECORD_FILE, WEIGHTS_FILE, read_checkpoint
from mlipbench.errors import ConfigError, ExitCode, MlipbenchError, PrerequisiteError, WorkerError
from mlipbench.nets.graph import find_neighbors, make_graph
from mlipbench.nets.load import load_network
from mlipbench.recipe import EVENTS_FILE, JOB_FILE, Event, EventKind
from mlipbench.structures.columnar import Labels
from mlipbench.training import job as jobs
from mlipbench.training import loop
from mlipbench.training.batches import BatchMaker
from mlipbench.training.data import LabelledStructures
from mlipbench.training.job import STATES, train_job
from mlipbench.training.learner import Learner
from mlipbench.training.main import main
from mlipbench.training.reference import reference_energies
from mlipbench.training.verdict import Errors, judge

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.structures.columnar import Split


def events(folder: Path) -> list[Event]:
    return [Event.model_validate_json(line) for line in (folder / EVENTS_FILE).read_text().splitlines()]


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def working_folder(tmp_path: Path, name: str = "job") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_a_training_lowers_the_loss_and_leaves_a_checkpoint(split: Split, tmp_path: Path) -> None:
    folder = working_folder(tmp_path)
    made = train_job(job_for(split, steps=150, evaluate_every=50), folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([EVENTS_FILE, LOG_FILE, RECORD_FILE, WEIGHTS_FILE])
    record = read_checkpoint(folder)
    assert record == made
    log = rows(folder / LOG_FILE)
    assert [row["step"] for row in log] == ["50", "100", "150"]
    assert [float(row["epoch"]) for row in log] == [50 / 3, 100 / 3, 50.0]  # 8 structures in batches of 3
    assert float(log[-1]["loss"]) < 0.5 * float(log[0]["loss"])
    assert [point.forces_mae for point in record.curve] == [float(row["forces_mae"]) for row in log]
    assert record.elements == (10, 18)
    assert record.parameters == 20 * 8 + (8 * 16 + 16) + (16 + 1) + (2 * 2 + 2)
    assert record.energy_reference.per_element == pytest.approx({10: -10.0, 18: -10.0}, abs=2.0)


@pytest.mark.parametrize("free_only", [False, True])
def test_errors_and_verdict_are_those_of_the_weights_kept(free_only: bool, tmp_path: Path) -> None:
    folder = working_folder(tmp_path)
    split = save(tmp_path / "columns", clusters_of_atoms(12, fixed=True))
    train_job(job_for(split, steps=60, precision="float64", free_atoms_only=free_only), folder)
    record, network = load_network(folder)
    structures, labels = split.structures(8, 12), split.labels(8, 12)
    with torch.no_grad():
        output = network.eval()(make_graph(structures, find_neighbors(structures, 5.0), torch.float64))
    energy = output.energy.numpy() + reference_energies(record.energy_reference, structures)
    chosen = record.candidates[0]
    assert chosen.energy_mae == pytest.approx(np.abs(energy - labels.energy).mean(), rel=1e-9)
    counted = ~structures.fixed if free_only else np.ones(structures.n_atoms, dtype=bool)
    assert chosen.forces_mae == pytest.approx(np.abs(output.forces.numpy() - labels.forces)[counted].mean(), rel=1e-9)
    assert chosen.forces_mae == min(point.forces_mae for point in record.curve)
    floor = np.abs(labels.forces)[counted].mean()
    assert record.verdict.zero_forces_mae == pytest.approx(floor)
    assert record.verdict.ratio == pytest.approx(chosen.forces_mae / floor)
    assert (record.verdict.low, record.verdict.high, record.verdict.trained) == (None, None, False)  # four clusters


@pytest.mark.parametrize(
    ("shares", "trained"),
    [
        ([0.3] * 8, True),
        ([0.4999] * 8, True),
        ([0.5] * 8, False),  # below half, not at it
        ([0.3] * 7, False),  # too few clusters to be certain
        ([0.1, 0.9, 0.05, 0.6, 0.1, 0.4, 0.05, 0.2], False),  # 0.3 on average, but who knows
    ],
)
def test_trained_is_what_is_certainly_below_half_of_the_zero_force_floor(
    shares: list[float], trained: bool, tmp_path: Path
) -> None:
    n = len(shares)
    structures = clusters_of_atoms(n)
    floor = np.arange(1.0, n + 1)
    # all of a structure's force on the first component of its first atom
    forces = np.zeros_like(structures.positions)
    forces[structures.offsets[:-1], 0] = -floor
    split = save(tmp_path / "columns", structures, Labels(np.zeros(n), forces))
    everything = np.ones(structures.n_atoms, dtype=bool)
    data = LabelledStructures(split, np.arange(n), structures, np.zeros(n), forces, everything)
    verdict = judge(data, Errors(np.zeros(n), np.array(shares) * floor, 3 * structures.n_atoms))
    assert verdict.zero_forces_mae == pytest.approx(floor.sum() / (3 * structures.n_atoms))
    assert verdict.ratio == pytest.approx((np.array(shares) * floor).sum() / floor.sum())
    assert (verdict.high is None) == (n < 8)
    assert verdict.trained is trained


def test_the_best_learning_rate_of_a_grid_is_chosen(split: Split, tmp_path: Path) -> None:
    folder = working_folder(tmp_path)
    record = train_job(job_for(split, learning_rates=[1e-5, 1e-2], steps=60), folder)
    assert [candidate.learning_rate for candidate in record.candidates] == [1e-5, 1e-2]
    assert record.candidates[1].forces_mae < record.candidates[0].forces_mae
    assert record.learning_rate == 1e-2
    alone = train_job(job_for(split, steps=60), working_folder(tmp_path, "alone"))
    assert alone.weights_sha256 == record.weights_sha256
    assert {event.learning_rate for event in events(folder) if event.kind is EventKind.EVALUATION} == {1e-5, 1e-2}


def test_events_tell_the_whole_story(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_BETWEEN_EVENTS", 0.0)
    folder = working_folder(tmp_path)
    train_job(job_for(split, steps=4, evaluate_every=2), folder)
    told = [(event.kind.value, event.step) for event in events(folder) if event.kind is not EventKind.STEPS]
    assert told == [("begin", 0), ("evaluation", 2), ("evaluation", 4), ("end", 4), ("done", 0)]
    assert [event.step for event in events(folder) if event.kind is EventKind.STEPS] == [1, 2, 3, 4]
    assert all(event.steps == 4 for event in events(folder)[:-1])


def slowed(patch: pytest.MonkeyPatch, place: Any, name: str, seconds: float) -> None:
    """Let every call of a function take longer."""
    function = getattr(place, name)

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **named)

    patch.setattr(place, name, slow)


@pytest.mark.parametrize(("place", "name"), [(Learner, "step"), (BatchMaker, "make")])
def test_step_times_hold_the_step_and_the_wait_for_its_batch(
    place: Any, name: str, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, place, name, 0.03)
    times = train_job(job_for(split, steps=12, evaluate_every=12), working_folder(tmp_path)).step_times
    assert times is not None
    assert (times.n, times.skipped, times.batch, times.device, times.processes) == (10, 2, 3, "cpu", 1)
    assert 0.03 <= times.p25 <= times.median <= times.p75


def test_step_times_hold_neither_validation_nor_saving(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_AT_LATEST", 0.0)  # after every step
    slowed(monkeypatch, loop, "evaluate", 0.2)
    slowed(monkeypatch, loop, "save_state", 0.2)
    times = train_job(job_for(split, steps=8, evaluate_every=2), working_folder(tmp_path)).step_times
    assert times is not None
    assert times.n == 6
    assert times.p75 < 0.2


def test_step_times_are_those_of_the_learning_rate_chosen(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Learner.step

    def slow_for_small_rates(self: Learner, batch: Any, counts: Any, learning_rate: float) -> Any:
        time.sleep(0.05 if learning_rate < 1e-3 else 0.0)
        return step(self, batch, counts, learning_rate)

    monkeypatch.setattr(Learner, "step", slow_for_small_rates)
    record = train_job(job_for(split, learning_rates=[1e-5, 1e-2], steps=20), working_folder(tmp_path))
    assert record.learning_rate == 1e-2
    assert record.step_times is not None
    assert record.step_times.median < 0.05


class KilledError(BaseException):
    """Ends a training where no handler of its own can see it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Let the optimiser step of this number, over all learning rates, be the last."""
    step, calls = Learner.step, []

    def dying(self: Learner, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > call:
            raise KilledError
        return step(self, *arguments)

    monkeypatch.setattr(Learner, "step", dying)


@pytest.mark.parametrize("schedule", [{"kind": "plateau", "patience": 0}, {"kind": "cosine", "warmup": 0.2}])
@pytest.mark.parametrize("calls", [[3], [11], [40], [5, 10, 31]])
def test_a_training_that_was_killed_ends_in_the_same_bits(
    calls: list[int], schedule: dict[str, Any], split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for(split, learning_rates=[1e-2, 3e-2], schedule=schedule, evaluate_every=7)
    whole, broken = working_folder(tmp_path, "whole"), working_folder(tmp_path, "broken")
    expected = train_job(job, whole)
    monkeypatch.setattr(loop, "SAVE_AFTER", 0.0)
    monkeypatch.setattr(loop, "SAVE_AT_LATEST", 0.0 if len(calls) > 1 else math.inf)
    for call in calls:
        with monkeypatch.context() as patch:
            kill_at(patch, call)
            with pytest.raises(KilledError):
                train_job(job, broken)
    found = train_job(job, broken)
    assert (broken / WEIGHTS_FILE).read_bytes() == (whole / WEIGHTS_FILE).read_bytes()
    timed = {"curve", "candidates", "step_times"}
    assert found.model_dump(exclude=timed) == expected.model_dump(exclude=timed)
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in rows(broken / LOG_FILE)]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in rows(whole / LOG_FILE)]
    assert any(event.text.startswith("goes on at step") for event in events(broken)) == (calls[0] > 7 or len(calls) > 1)


def test_the_best_weights_outlive_a_killed_process(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first validation is the best one, and the process dies after the second."""
    job = job_for(split)
    short = train_job(job_for(split, steps=10), working_folder(tmp_path, "short"))
    values = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(loop, "evaluate", lambda *_: Errors(np.ones(1), np.array([next(values)]), 1))
    monkeypatch.setattr(loop, "SAVE_AFTER", 0.0)
    folder = working_folder(tmp_path)
    with monkeypatch.context() as patch:
        kill_at(patch, 25)
        with pytest.raises(KilledError):
            train_job(job, folder)
    record = train_job(job, folder)
    assert [point.forces_mae for point in record.curve] == [1.0, 2.0, 3.0]
    assert record.candidates[0].best_step == 10
    assert record.weights_sha256 == short.weights_sha256


def test_a_finished_learning_rate_is_not_trained_again(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, folder = job_for(split, learning_rates=[1e-2, 3e-2]), working_folder(tmp_path)
    with monkeypatch.context() as patch:
        kill_at(patch, 31)
        with pytest.raises(KilledError):
            train_job(job, folder)
    train_job(job, folder)
    began = [event.learning_rate for event in events(folder) if event.kind is EventKind.BEGIN]
    assert began == [1e-2, 3e-2, 3e-2]


def test_a_finished_job_is_only_reported(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, folder = job_for(split), working_folder(tmp_path)
    train_job(job, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != EVENTS_FILE}
    kill_at(monkeypatch, 0)
    train_job(job, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != EVENTS_FILE} == before
    assert events(folder)[-1].kind is EventKind.DONE
    with pytest.raises(ConfigError, match="the folder holds another checkpoint"):
        train_job(job.model_copy(update={"identity": "1" * 64}), folder)


def test_the_log_of_a_killed_training_has_neither_more_nor_fewer_rows(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, folder = job_for(split, evaluate_every=5), working_folder(tmp_path)
    with monkeypatch.context() as patch:
        kill_at(patch, 17)  # the state was not saved yet, but the log has three rows
        with pytest.raises(KilledError):
            train_job(job, folder)
    assert len(rows(folder / STATES / "0.01" / LOG_FILE)) == 3
    train_job(job, folder)
    assert [row["step"] for row in rows(folder / LOG_FILE)] == ["5", "10", "15", "20", "25", "30"]


def test_early_stopping_waits_for_its_number_of_validations(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([5.0, 4.0, 4.5, 3.0, 3.0, 3.1, 2.0])

    def evaluate(*_: Any) -> Errors:
        return Errors(np.ones(1), np.array([next(values)]), 1)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    record = train_job(job_for(split, steps=100, evaluate_every=2, early_stopping=2), working_folder(tmp_path))
    assert [point.forces_mae for point in record.curve] == [5.0, 4.0, 4.5, 3.0, 3.0, 3.1]
    assert (record.candidates[0].best_step, record.candidates[0].steps) == (8, 12)


def test_wall_time_ends_a_training_in_place_of_steps(split: Split, tmp_path: Path) -> None:
    record = train_job(
        job_for(split, steps=None, seconds=0.5, evaluate_every=10_000, schedule={"kind": "cosine", "final": 0.0}),
        working_folder(tmp_path),
    )
    assert len(record.curve) == 1
    assert 0.5 <= record.curve[0].seconds < 5.0
    assert record.curve[0].learning_rate < 5e-3  # more than half of the time had gone by


def test_without_forces_energies_decide(tmp_path: Path) -> None:
    structures = clusters_of_atoms(12)
    split = save(tmp_path / "bare", structures, Labels(lennard_jones(structures).energy))
    record = train_job(job_for(split, loss={"energy": 1.0, "forces": 0.0}), working_folder(tmp_path))
    assert [point.forces_mae for point in record.curve] == [None] * 3
    assert record.candidates[0].energy_mae == min(point.energy_mae for point in record.curve)
    assert (record.verdict.ratio, record.verdict.trained) == (None, False)


def test_weights_are_those_of_a_plain_loop(split: Split, tmp_path: Path) -> None:
    """Three steps with everything else switched off, against torch's optimiser in a loop of five lines."""
    changes = {"steps": 3, "evaluate_every": 3, "ema_decay": None, "clip": None, "precision": "float64", "batch": 8}
    train_job(job_for(split, loss={"kind": "mse", "energy": 2.0, "forces": 3.0}, **changes), working_folder(tmp_path))
    _, found = load_network(tmp_path / "job")
    structures, labels = split.structures(0, 8), split.labels(0, 8)
    torch.manual_seed(0)
    network = training_helpers.build("toy", "small").double().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.0, amsgrad=True)
    graph = make_graph(structures, find_neighbors(structures, 5.0), torch.float64)
    composition = np.stack([np.bincount(atoms.numbers, minlength=19)[[10, 18]] for atoms in structures]).astype(float)
    shifts = np.linalg.lstsq(composition, labels.energy, rcond=None)[0]
    energy = torch.from_numpy(labels.energy - composition @ shifts)
    for _ in range(3):
        output = network(graph)
        error = (output.energy - energy).square().mean() * 2.0
        error = error + (output.forces - torch.from_numpy(np.array(labels.forces))).square().mean() * 3.0
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    for name, weight in network.named_parameters():
        assert torch.allclose(found.get_parameter(name), weight, rtol=1e-7, atol=1e-9), name


@pytest.mark.parametrize("rates", [[1e30], [1e30, 1e-2], [1e30, 1e31]])
def test_a_loss_that_is_no_number_loses_the_learning_rate(rates: list[float], split: Split, tmp_path: Path) -> None:
    folder = working_folder(tmp_path)
    job = job_for(split, learning_rates=rates)
    line = r"learning rate 1e\+3., step \d+: the loss or the norm of its gradient is NaN or infinite; lower the"
    if 1e-2 in rates:
        record = train_job(job, folder)
        assert [candidate.learning_rate for candidate in record.candidates] == [1e-2]
    else:
        for _ in range(2):  # the second time it is known
            with pytest.raises(WorkerError, match=line):
                train_job(job, folder)
    ends = [event for event in events(folder) if event.kind is EventKind.END]
    assert [event.exit_code for event in ends] == [0 if rate == 1e-2 else 3 for rate in rates]
    assert ends[0].text.startswith("lost: learning rate 1e+30, step ")


def run_main(folder: Path, content: str) -> int:
    (folder / JOB_FILE).write_text(content)
    with pytest.raises(SystemExit) as ended:
        main([str(folder / JOB_FILE)])
    return int(ended.value.code)


def test_errors_are_one_line_an_event_and_an_exit_code(
    split: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = working_folder(tmp_path)
    overlapping = job_for(split, validation={"split": "train"})
    assert run_main(folder, overlapping.model_dump_json()) == ExitCode.USAGE
    last = events(folder)[-1]
    assert (last.kind, last.exit_code) == (EventKind.ERROR, ExitCode.USAGE)
    assert "the recipe's training and validation structures overlap: 8" in last.text
    assert capsys.readouterr().err == last.text + "\n"
    assert run_main(folder, job_for(split, learning_rates=[1e30]).model_dump_json()) == ExitCode.TASKS_FAILED
    assert run_main(folder, job_for(split).model_dump_json()) == ExitCode.DONE


def test_a_full_disk(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert run_main(working_folder(tmp_path), job_for(split).model_dump_json()) == ExitCode.MISSING
    assert "no space left on the device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"preset": "huge"}, "internal error: KeyError: 'huge'"),
        ({"changes": {"hidden": "wide"}}, "recipe tiny: changes: the network toy cannot be built: "),
        ({"changes": {"width": 3}}, "recipe tiny: changes: the network toy cannot be built: "),
        ({"changes": {"elements": 11}}, "elements the network does not cover: Ar (18)"),
    ],
)
def test_a_network_that_cannot_be_had(
    change: dict[str, Any], line: str, split: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = working_folder(tmp_path)
    assert run_main(folder, job_for(split, **change).model_dump_json()) != 0
    assert line in events(folder)[-1].text
    assert line in capsys.readouterr().err


def test_a_job_that_is_none(split: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = working_folder(tmp_path)
    content = json.loads(job_for(split).model_dump_json())
    content["recipe"]["batch"] = 0
    assert run_main(folder, json.dumps(content)) == ExitCode.USAGE
    assert "job.json: recipe.batch: not a training job: Input should be greater than 0" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "nowhere" / JOB_FILE)])
    assert ended.value.code == ExitCode.MISSING
    assert "there is no such job file" in capsys.readouterr().err


def test_a_gpu_that_is_not_there(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PrerequisiteError, match="there is no CUDA device"):
        train_job(job_for(split).model_copy(update={"device": "cuda"}), working_folder(tmp_path))


def test_one_process_needs_no_environment_of_many(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "job", "SLURM_PROCID": "3"}.items():
        monkeypatch.setenv(name, value)
    fabric = jobs.start_fabric(job_for(split))
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def spoil_record(folder: Path) -> None:
    content = json.loads((folder / RECORD_FILE).read_text())
    (folder / RECORD_FILE).write_text(json.dumps({**content, "verdict": None}))


def rewrite(folder: Path, change: Any) -> None:
    """Change the weights, and the record so that it agrees."""
    import hashlib

    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)
    content = json.loads((folder / RECORD_FILE).read_text())
    content["weights_sha256"] = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    (folder / RECORD_FILE).write_text(json.dumps(content))


@pytest.fixture
def checkpoint(split: Split, tmp_path: Path) -> Path:
    folder = working_folder(tmp_path, "checkpoint")
    train_job(job_for(split, steps=2, evaluate_every=2), folder)
    return folder


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda f: rewrite(f, lambda t: t.pop("pair.0.bias")), "the tensor pair.0.bias is missing"),
        (lambda f: rewrite(f, lambda t: t.update(odd=torch.zeros(1))), "the network has no tensor odd"),
        (
            lambda f: rewrite(f, lambda t: t.update({"pair.0.bias": torch.zeros(3)})),
            "pair.0.bias: has shape (3,), the network's is (16,)",
        ),
        (
            lambda f: rewrite(f, lambda t: t.update({"pair.0.bias": torch.zeros(16, dtype=torch.float64)})),
            "pair.0.bias: has the type torch.float64, the network's is torch.float32",
        ),
        (lambda f: (f / WEIGHTS_FILE).write_bytes((f / WEIGHTS_FILE).read_bytes()[:-9]), "truncated or changed"),
        (lambda f: (f / WEIGHTS_FILE).unlink(), "model.safetensors: the checkpoint cannot be read"),
        (spoil_record, "checkpoint.json: verdict: not a checkpoint record of this version"),
    ],
)
def test_a_checkpoint_that_cannot_be_loaded(spoil: Any, line: str, checkpoint: Path) -> None:
    load_network(checkpoint)
    spoil(checkpoint)
    with pytest.raises(MlipbenchError) as caught:
        load_network(checkpoint)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_safetensors(checkpoint: Path) -> None:
    import hashlib

    whole = (checkpoint / WEIGHTS_FILE).read_bytes()
    for content in (b"", whole[:5], whole[:-9], b"\xff" * 100):
        (checkpoint / WEIGHTS_FILE).write_bytes(content)
        record = json.loads((checkpoint / RECORD_FILE).read_text())
        record["weights_sha256"] = hashlib.sha256(content).hexdigest()
        (checkpoint / RECORD_FILE).write_text(json.dumps(record))
        with pytest.raises(ConfigError, match=r"model\.safetensors: not a whole safetensors file"):
            load_network(checkpoint)


def test_a_copied_checkpoint_is_the_same_one(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "copy")
    record, network = load_network(tmp_path / "copy")
    assert record == read_checkpoint(checkpoint)
    assert "again.weight" not in load_keys(checkpoint)
    assert torch.equal(network.again.weight, network.pair[0].weight)


def load_keys(folder: Path) -> set[str]:
    from safetensors.torch import load_file

    return set(load_file(folder / WEIGHTS_FILE))
