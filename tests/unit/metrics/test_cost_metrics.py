import pytest

from mlipbench.cost import (
    Call,
    CallCost,
    CostFacts,
    FlopCount,
    Operator,
    OperatorClass,
    ParameterCount,
    Stage,
    ThopCount,
)
from mlipbench.metrics.cost import COST_METRICS
from mlipbench.metrics.cost_columns import Costs
from mlipbench.metrics.definition import Estimate

NOTHING = Estimate(None, None, None, 0, "trained elsewhere")


def call(stage, seconds, *, round_=0, size=1, atoms=10, beside=None, peak=0, compiling=0.0):
    halves = (seconds / 4, 3 * seconds / 4)
    return Call(stage, round_, 0, 0, 0, size, atoms, *halves, seconds, 0, compiling, beside, None, None, peak)


def counted(flops, elements=0, opaque=()):
    operators = [Operator("aten.mm", OperatorClass.PRODUCT, 3, 10, flops)]
    operators += [Operator("aten.mul", OperatorClass.ARITHMETIC, 1, elements, 0)] if elements else []
    operators += [Operator(name, OperatorClass.OPAQUE, 1, 5, 0) for name in opaque]
    return FlopCount(tuple(operators))


def facts(**changes):
    given = {
        "n_structures": 4,
        "n_atoms": 40,
        "n_edges": 400,
        "parameters": ParameterCount(1000, 900, 50),
        "energy": CallCost(counted(8_000_000_000), ThopCount(1_000_000_000)),
        "forces": CallCost(counted(16_000_000_000, elements=1000), ThopCount(None, "thop fails: RuntimeError: no")),
    }
    return CostFacts(**(given | changes))


def costs(calls=(), **changes):
    given = {"facts": facts(), "step": NOTHING, "samples": NOTHING, "cutoff": 6.0, "reference": "leignn"}
    return Costs(calls=tuple(calls), **(given | changes))


def value(name, given):
    return COST_METRICS[name].estimate(given)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("parameters", 1000),
        ("trainable_parameters", 900),
        ("idle_parameters", 50),
        ("flops_energy", 2.0),  # 8 GFLOP of 4 structures
        ("flops", 4.0),
        ("flops_per_atom", 0.4),
        ("flops_per_edge", 0.04),
        ("counted_share", 0.75),  # three of four calls
        ("mean_edges", 100.0),
        ("cutoff", 6.0),
    ],
)
def test_counts_are_per_structure_atom_and_edge(name, expected):
    found = value(name, costs())
    assert found.value == pytest.approx(expected)
    assert found.reason.startswith("counted, not estimated")
    assert found.low is None


def test_what_could_not_be_counted_says_why():
    opaque = costs(facts=facts(forces=CallCost(counted(10, opaque=("mylib.kernel",)), ThopCount(5))))
    assert value("flops", opaque).value is None
    assert value("flops", opaque).reason == "not looked into: mylib.kernel"
    assert value("flops_thop", opaque).value == pytest.approx(2 * 5 / 4 / 1e9)
    assert value("flops_thop", costs()).reason == "thop fails: RuntimeError: no"
    assert value("flops_per_edge", costs(facts=facts(n_edges=None))).reason == "the model tells no number of edges"
    for name in ("parameters", "flops", "mean_edges", "counted_share"):
        assert value(name, costs(facts="the worker died")).reason == "the worker died"


def test_what_a_counter_leaves_out_is_named():
    assert value("counted_share", costs()).reason == "counted, not estimated; left out: aten.mul"
    thop = ThopCount(5, None, 0.25, ("Basis", "Cutoff", "Edges", "Norm", "Sum"))
    found = value("thop_share", costs(facts=facts(forces=CallCost(counted(10), thop))))
    assert found.value == 0.25
    assert found.reason == "counted, not estimated; left out: Basis, Cutoff, Edges and 2 more"
    assert value("thop_share", costs()).reason == "thop fails: RuntimeError: no"


def test_latencies_are_in_milliseconds_and_halves_add_up():
    calls = [call(Stage.LATENCY, 0.1 + 0.001 * number, round_=number) for number in range(21)]
    found = costs(calls)
    assert value("latency_p50", found).value == pytest.approx(110.0)
    assert value("latency_prepare", found).value == pytest.approx(27.5)
    assert value("latency_forward", found).value == pytest.approx(82.5)
    assert value("latency_p90", found).value is None
    assert value("latency_energy", found).reason == "nothing was timed"
    assert value("cold_start", costs([call(Stage.COLD, 2.0), *calls])).value == pytest.approx(2000.0)
    assert value("compile_time", costs([call(Stage.COLD, 2.0), *calls])).reason == "nothing was compiled"
    compiled = costs([call(Stage.COLD, 2.0, compiling=1.5), *calls])
    assert value("cold_start", compiled).value == pytest.approx(500.0)
    assert value("compile_time", compiled).value == pytest.approx(1500.0)


def test_the_ratio_needs_a_reference():
    calls = [call(Stage.LATENCY, 0.2, round_=number, beside=0.1) for number in range(8)]
    assert value("latency_ratio", costs(calls)).value == pytest.approx(2.0)
    alone = value("latency_ratio", costs(calls, reference=None))
    assert alone.value is None
    assert alone.reason == "the reference model was not measured in the same rounds"


def batches(times):
    return [
        call(Stage.THROUGHPUT, seconds, round_=number, size=size, atoms=10 * size, peak=size * 2**20)
        for size, seconds in times.items()
        for number in range(4)
    ]


def test_throughput_is_that_of_the_best_size():
    found = costs(batches({1: 0.1, 2: 0.12, 4: 0.2, 8: 0.5}), limit="16 structures: out of memory")
    rate = value("throughput", found)
    assert rate.value == pytest.approx(20.0)  # four in 0.2 s
    assert rate.reason == "batches of 4; nothing larger: 16 structures: out of memory"
    assert value("atom_throughput", found).value == pytest.approx(200.0)
    assert value("peak_memory", found).value == 8.0
    assert value("peak_allocator", found).reason == "the allocator of a processor keeps no count"


def test_overhead_and_slope():
    found = costs(batches({size: 0.05 + 0.002 * 10 * size for size in (1, 2, 4, 8)}))
    assert value("batch_overhead", found).value == pytest.approx(50.0)
    assert value("time_per_atom", found).value == pytest.approx(2.0)


def test_training_is_in_milliseconds():
    step = Estimate(0.5, 0.4, 0.6, 20, "quartiles")
    found = value("training_step", costs(step=step))
    assert (found.value, found.low, found.high) == pytest.approx((500.0, 400.0, 600.0))
    assert value("training_rate", costs()).reason == "trained elsewhere"


def test_only_times_depend_on_the_machine():
    untimed = {name for name, definition in COST_METRICS.items() if not definition.timed}
    assert untimed == {
        *("parameters", "trainable_parameters", "idle_parameters", "mean_edges", "cutoff"),
        *("flops_energy", "flops", "flops_per_atom", "flops_per_edge", "flops_thop", "counted_share", "thop_share"),
    }


def test_every_metric_without_anything_has_a_reason():
    empty = costs(facts="nothing", cutoff=None)
    for definition in COST_METRICS.values():
        found = definition.estimate(empty)
        assert found.value is None
        assert found.reason
