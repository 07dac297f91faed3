import json

import pytest

from mlipbench.cost import (
    CallCost,
    CostFacts,
    FlopCount,
    Operator,
    OperatorClass,
    ParameterCount,
    ThopCount,
)

PRODUCT = Operator("aten.mm", OperatorClass.PRODUCT, 2, 40, 1000)
VIEW = Operator("aten.view", OperatorClass.FREE, 7, 90, 0)
SINE = Operator("aten.sin", OperatorClass.ARITHMETIC, 1, 600, 0)
SUM = Operator("aten.sum", OperatorClass.ARITHMETIC, 5, 400, 0)
FOREIGN = tuple(Operator(f"theirs.op{n}", OperatorClass.OPAQUE, 1, 8, 0) for n in range(5))


def facts(forces=True) -> CostFacts:
    cost = CallCost(FlopCount((PRODUCT, SINE, VIEW)), ThopCount(250, None, 0.5, ("Embedding",)))
    return CostFacts(2, 9, 30, ParameterCount(100, 90, 7), cost, cost if forces else None)


def test_facts_survive_the_way_through_json():
    for told in (facts(), facts(forces=False)):
        assert CostFacts.from_header(json.loads(json.dumps(told.as_header()))) == told


@pytest.mark.parametrize("part", ["n_edges", "parameters", "energy", "forces"])
def test_a_header_without_a_part_is_refused(part):
    header = json.loads(json.dumps(facts().as_header()))
    del header[part]
    with pytest.raises(ValueError, match="does not hold the facts"):
        CostFacts.from_header(header)


def test_a_header_with_an_unknown_class_is_refused():
    header = json.loads(json.dumps(facts().as_header()))
    header["energy"]["dispatched"]["operators"][0]["kind"] = "magic"
    with pytest.raises(ValueError, match="does not hold"):
        CostFacts.from_header(header)


def test_shares_leave_free_calls_out():
    count = FlopCount((PRODUCT, SINE, SUM, VIEW))
    assert count.flops == 1000
    assert count.call_share == 2 / 8
    assert count.product_share == 1000 / 2000
    assert [count.calls(kind) for kind in OperatorClass] == [2, 7, 6, 0]
    assert count.largest(OperatorClass.ARITHMETIC) == (SINE, SUM)


def test_an_opaque_operator_leaves_no_figure():
    count = FlopCount((PRODUCT, FOREIGN[0]))
    assert count.flops is None
    assert count.reason == "not looked into: theirs.op0"
    assert count.counted == 1000
    many = FlopCount((PRODUCT, *FOREIGN))
    assert many.reason == "not looked into: theirs.op0, theirs.op1, theirs.op2 and 2 more"


def test_a_count_that_is_the_lesser_part_is_no_figure():
    almost = Operator("aten.mul", OperatorClass.ARITHMETIC, 1, 1, 0)
    assert FlopCount((PRODUCT, SINE, SUM)).flops == 1000  # one half
    assert FlopCount((PRODUCT, SINE, SUM, almost)).flops is None
    assert FlopCount((SINE,)).reason == "products of matrices are 0% of the arithmetic only"


def test_nothing_at_all_costs_nothing():
    assert FlopCount((VIEW,)).flops == 0
    assert FlopCount((VIEW,)).call_share is None
    assert FlopCount(unavailable="no module").flops is None


def test_thop_counts_multiply_adds():
    assert ThopCount(105).flops == 210
    assert ThopCount(None, "fails").flops is None
