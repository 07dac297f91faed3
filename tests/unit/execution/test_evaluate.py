import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from mlipbench.errors import ConfigError
from mlipbench.execution.client import loaded_client
from mlipbench.execution.evaluate import Policy, Predictor, TaskEnded, Verdict, predict_batches
from mlipbench.execution.requests import LoadModel
from mlipbench.models.interface import Property
from mlipbench.tasks import TaskRequest

EF = TaskRequest(frozenset({Property.ENERGY, Property.FORCES}))
EFS = TaskRequest(frozenset(Property))


class Bench:
    """A shard, a toy, and what became of them."""

    def __init__(self, spec):
        self.spec = spec
        self.started = []
        self.committed = {}

    def factory(self, name, **kwargs):
        def start():
            client = loaded_client(self.spec, LoadModel(f"mlipbench.testing.toys:{name}", kwargs=kwargs))
            self.started.append(client.pid)
            return client

        return start

    def commit(self, batch_id, outcome):
        assert batch_id not in self.committed
        self.committed[batch_id] = outcome

    def run(self, batches, name, policy=None, request=EF, **kwargs):
        predict_batches(self.factory(name, **kwargs), batches, request, self.commit, policy)
        return list(self.committed.values())


@pytest.fixture
def bench(spec):
    return Bench(spec)


@pytest.fixture
def shard(batch_of):
    """Return three batches of 6 structures; the arguments are the indices that carry the odd element."""

    def make(*odd, size=6, n=3):
        whole = batch_of(size * n, odd)
        return [(f"b{i}", whole.slice(i * size, (i + 1) * size)) for i in range(n)]

    return make


def expected(batch):
    arms = [part.positions - part.positions.mean(axis=0) for part in batch]
    return np.array([0.5 * (arm**2).sum() for arm in arms]), -np.concatenate(arms)


def assert_only_failed(shard, outcomes, failed, reason):
    """All rows are right but those in `failed`, which are NaN and carry `reason`."""
    size = shard[0][1].n_structures
    assert len(outcomes) == len(shard)
    for k, ((_, batch), outcome) in enumerate(zip(shard, outcomes, strict=True)):
        bad = [i for i in range(size) if k * size + i in failed]
        assert outcome.reasons == dict.fromkeys(bad, reason)
        np.testing.assert_array_equal(np.flatnonzero(~outcome.ok), bad)
        energy, forces = expected(batch)
        energy[bad] = np.nan
        forces[np.isin(batch.structure_index, bad)] = np.nan
        np.testing.assert_allclose(outcome.columns["energy"], energy, rtol=1e-12)
        np.testing.assert_allclose(outcome.columns["forces"], forces, atol=1e-12)


def assert_identical(first, second):
    for a, b in zip(first, second, strict=True):
        assert a.columns["energy"].tobytes() == b.columns["energy"].tobytes()
        assert a.columns["forces"].tobytes() == b.columns["forces"].tobytes()
        assert a.ok.tobytes() == b.ok.tobytes()
        assert a.reasons == b.reasons


def test_honest_models_are_predicted_in_one_go(bench, shard):
    batches = shard()
    outcomes = bench.run(batches, "SpringAdapter")
    assert_only_failed(batches, outcomes, [], "")
    assert list(bench.committed) == ["b0", "b1", "b2"]
    assert len(bench.started) == 1
    assert [outcome.timings[0].n_structures for outcome in outcomes] == [6, 6, 6]
    assert [outcome.timings[0].cold for outcome in outcomes][:2] == [True, True]
    assert "stress" not in outcomes[0].columns


def test_stress_is_carried(bench, shard):
    outcomes = bench.run(shard(n=1), "SpringAdapter", request=EFS)
    assert outcomes[0].columns["stress"].shape == (6, 6)
    assert np.all(outcomes[0].columns["stress"][:, :3] > 0)


def test_empty_shards_and_empty_batches(bench, batch_of):
    assert bench.run([], "SpringAdapter") == []
    empty, full = batch_of(1).slice(0, 0), batch_of(2)
    outcomes = bench.run([(0, empty), (1, full), (2, empty)], "SpringAdapter")
    assert list(bench.committed) == [0, 1, 2]
    assert [len(outcome.columns["energy"]) for outcome in outcomes] == [0, 2, 0]


@pytest.mark.parametrize("odd_at", [(0,), (3, 4)])
def test_crashes_cost_the_structures_to_blame_and_no_other(bench, shard, odd, odd_at):
    batches = shard(*odd_at, size=4)
    outcomes = bench.run(batches, "CrashAdapter", element=odd)
    assert_only_failed(batches, outcomes, odd_at, "worker killed by SIGSEGV")
    assert list(bench.committed) == ["b0", "b1", "b2"]


def test_exits_are_named_in_the_row(bench, shard, odd):
    batches = shard(1, size=2)
    assert_only_failed(
        batches, bench.run(batches, "CrashAdapter", element=odd, how="exit"), [1], "worker exited with code 7"
    )


def test_hangs_cost_one_structure(bench, shard, odd):
    bench.spec = replace(bench.spec, request_timeout=0.4)
    batches = shard(1, size=2, n=2)
    outcomes = bench.run(batches, "HangAdapter", element=odd)
    assert_only_failed(batches, outcomes, [1], "worker did not answer within 0.4 s")


def test_memory_costs_one_structure(bench, shard, odd):
    bench.spec = replace(bench.spec, memory_limit=250 * 2**20)
    batches = shard(1, size=2, n=2)
    outcomes = bench.run(batches, "MemoryAdapter", element=odd)
    reasons = [reason for outcome in outcomes for reason in outcome.reasons.values()]
    assert len(reasons) == 1
    assert reasons[0].endswith("over the limit of 250 MiB")
    assert_only_failed(batches, outcomes, [1], reasons[0])


def test_exceptions_halve_without_a_new_worker(bench, shard, odd):
    batches = shard(2, 9)
    outcomes = bench.run(batches, "RaiseAdapter", element=odd)
    assert_only_failed(batches, outcomes, [2, 9], f"RuntimeError: no parameters for element {odd}")
    assert len(bench.started) == 1
    assert [timing.n_structures for timing in outcomes[0].timings] == [2, 3]  # 0 1 | 2, then 3 4 5


def test_out_of_memory_halves_until_it_fits(bench, shard, odd):
    batches = shard(4)
    outcomes = bench.run(batches, "RaiseAdapter", element=odd, error="memory")
    assert_only_failed(batches, outcomes, [4], "MemoryError: cannot allocate the graph")
    assert len(bench.started) == 1


@pytest.mark.parametrize("name", ["energy", "forces", "stress"])
def test_non_finite_predictions_cost_their_row_only(bench, shard, odd, name):
    batches = shard(0, 7)
    outcomes = bench.run(batches, "NaNAdapter", element=odd, field=name, request=EFS)
    assert_only_failed(batches, outcomes, [0, 7], f"non-finite {name}")
    assert np.isnan(outcomes[0].columns["stress"][0]).all()
    assert np.isfinite(outcomes[0].columns["stress"][1:]).all()
    assert len(bench.started) == 1
    assert len(outcomes[0].timings) == 1


def test_wrong_shapes_cost_the_structures_that_have_them(bench, shard, odd):
    batches = shard(10)
    n_atoms = batches[1][1].counts[4]
    outcomes = bench.run(batches, "WrongShapeAdapter", element=odd)
    assert_only_failed(batches, outcomes, [10], f"forces have shape (3,), expected ({n_atoms}, 3)")


def test_noise_changes_nothing(bench, shard):
    batches = shard()
    assert_only_failed(batches, bench.run(batches, "NoisyAdapter"), [], "")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_kill_from_outside_leaves_no_trace(bench, spec, shard, after):
    batches = shard(2, n=5)
    undisturbed = Bench(spec).run(batches, "NaNAdapter", element=92)
    seen = []

    def commit(batch_id, outcome):
        bench.commit(batch_id, outcome)
        if len(seen) == after:
            os.kill(bench.started[-1], signal.SIGKILL)
        seen.append(batch_id)

    predict_batches(bench.factory("NaNAdapter", element=92), batches, EF, commit)
    assert len(bench.started) == 2
    assert list(bench.committed) == ["b0", "b1", "b2", "b3", "b4"]
    assert_identical(undisturbed, bench.committed.values())


def test_a_kill_in_the_middle_of_a_call_leaves_no_trace(bench, spec, shard):
    batches = shard(n=4)
    undisturbed = Bench(spec).run(batches, "SpringAdapter")
    start = bench.factory("SlowAdapter", seconds=0.3)

    def doomed():
        client = start()
        if len(bench.started) == 1:
            receive = client.receive

            def receive_killed(timeout=None):
                os.kill(client.pid, signal.SIGKILL)
                return receive(timeout)

            client.receive = receive_killed
        return client

    predict_batches(doomed, batches, EF, bench.commit)
    assert len(bench.started) == 2
    assert_identical(undisturbed, bench.committed.values())


def test_twenty_failures_in_a_row_end_the_shard(bench, shard):
    batches = shard(n=6)
    with pytest.raises(TaskEnded) as caught:
        bench.run(batches, "RaiseAdapter")
    attempted = sum(
        not reason.startswith("not attempted")
        for outcome in bench.committed.values()
        for reason in outcome.reasons.values()
    )
    assert attempted == 20
    assert caught.value.not_attempted == 36 - 20
    assert str(caught.value) == (
        "20 structures failed in a row, the last because: RuntimeError: no parameters for element None; "
        "16 structures of the shard were not attempted"
    )
    assert list(bench.committed) == ["b0", "b1", "b2", "b3"]
    last = bench.committed["b3"]
    assert not last.ok.any()
    assert sum(reason.startswith("not attempted: 20 structures") for reason in last.reasons.values()) == 4


def test_nineteen_failures_do_not(bench, shard):
    batches = shard(*range(19), size=20, n=2)
    outcomes = bench.run(batches, "RaiseAdapter", element=92)
    assert_only_failed(batches, outcomes, range(19), "RuntimeError: no parameters for element 92")


def test_a_batch_of_non_finite_predictions_ends_the_shard_too(bench, shard):
    with pytest.raises(
        TaskEnded, match="20 structures failed in a row, the last because: non-finite forces; 20 struct"
    ):
        bench.run(shard(size=10, n=4), "NaNAdapter")
    assert list(bench.committed) == ["b0", "b1"]


def test_failures_in_a_row_are_counted_over_shards(bench, shard):
    with Predictor(bench.factory("NaNAdapter")) as predictor:
        predictor.predict_batches(shard(n=2), EF, bench.commit)
        bench.committed.clear()
        with pytest.raises(TaskEnded, match="24 structures failed in a row"):
            predictor.predict_batches(shard(n=2), EF, bench.commit)
    assert len(bench.started) == 1


def test_new_workers_are_bounded(bench, shard):
    policy = Policy(max_restarts=2)
    with pytest.raises(TaskEnded, match="2 workers were lost, the last because: worker killed by SIGSEGV; 18 struct"):
        bench.run(shard(), "CrashAdapter", policy=policy)
    assert len(bench.started) == 3


def test_errors_of_the_first_load_are_not_hidden(bench, shard):
    with pytest.raises(ConfigError, match="is not a class derived from"):
        bench.run(shard(), "NoSuchAdapter")
    assert bench.committed == {}


def test_an_error_while_committing_ends_the_worker(bench, shard):
    def commit(batch_id, outcome):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        predict_batches(bench.factory("SpringAdapter"), shard(), EF, commit)
    with pytest.raises(ProcessLookupError):
        os.kill(bench.started[0], 0)


@pytest.mark.parametrize(
    ("name", "kwargs", "verdict", "reason"),
    [
        ("SpringAdapter", {}, Verdict.CONSISTENT, None),
        ("WrongOrderAdapter", {}, Verdict.INCONSISTENT, "wrong order or dependence on batch mates"),
        ("CrashAdapter", {}, Verdict.UNDECIDED, "worker killed by SIGSEGV"),
        ("RaiseAdapter", {"element": 1}, Verdict.UNDECIDED, "no parameters for element 1"),
    ],
)
def test_verification(bench, batch_of, name, kwargs, verdict, reason):
    with Predictor(bench.factory(name, **kwargs)) as predictor:
        verification = predictor.verify(batch_of(3), EF)
        again = predictor.verify(batch_of(3), EF)
    assert verification.verdict is again.verdict is verdict
    assert verification.reason is None if reason is None else reason in verification.reason
