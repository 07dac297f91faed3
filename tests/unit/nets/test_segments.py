from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from mlipbench.nets.segments import Segments, segment_sum, take  # noqa: E402 - needs torch

pytestmark = pytest.mark.torch


def segments(owner: list[int], n: int) -> Segments:
    rows = torch.tensor(owner, dtype=torch.int64)
    order = torch.argsort(rows, stable=True)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(rows, minlength=n).cumsum(0)])
    return Segments(rows, offsets, order)


def test_sums_by_hand() -> None:
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    found = segment_sum(values, segments([2, 0, 2, 3], 5))
    assert found.tolist() == [[2.0, 20.0], [0.0, 0.0], [5.0, 50.0], [8.0, 80.0], [0.0, 0.0]]


def test_take_by_hand() -> None:
    assert take(torch.tensor([5.0, 6.0, 7.0]), segments([2, 0, 2], 3)).tolist() == [7.0, 5.0, 7.0]


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3, 2)])
def test_any_number_of_columns(shape: tuple[int, ...]) -> None:
    values = torch.arange(float(torch.tensor(shape).prod())).reshape(shape)
    owner = [1, 1, 0, 3, 3, 3]
    expected = torch.zeros(4, *shape[1:]).index_add(0, torch.tensor(owner), values)
    assert torch.equal(segment_sum(values, segments(owner, 4)), expected)


@pytest.mark.parametrize("operation", [segment_sum, take])
def test_derivatives_of_both_orders(operation: object) -> None:
    part = segments([2, 0, 2, 3], 5)
    rows = 4 if operation is segment_sum else 5
    values = torch.randn(rows, 2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: operation(x, part) ** 2, values)
    torch.autograd.gradgradcheck(lambda x: operation(x, part) ** 2, values)


def test_without_rows() -> None:
    assert segment_sum(torch.zeros(0, 3), segments([], 2)).tolist() == [[0.0] * 3] * 2
    assert take(torch.zeros(2, 3), segments([], 2)).shape == (0, 3)
