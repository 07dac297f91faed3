"""The stand-ins for torch-scatter and torch-sparse against their definitions, on dense arrays."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402 - after torch
from hypothesis import strategies as st  # noqa: E402

from mlipbench.adapters.stand_ins import torch_scatter, torch_sparse  # noqa: E402

pytestmark = pytest.mark.torch
REDUCTIONS = {"sum": np.sum, "add": np.sum, "mean": np.mean, "min": np.min, "max": np.max}


@st.composite
def grouped(draw):
    """Return rows, the group of each, and the number of groups, some of which may be empty."""
    n_rows, n_groups, width = draw(st.integers(0, 12)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    rows = np.array(draw(st.lists(st.integers(-9, 9), min_size=n_rows * width, max_size=n_rows * width)))
    index = draw(st.lists(st.integers(0, n_groups - 1), min_size=n_rows, max_size=n_rows))
    return rows.reshape(n_rows, width).astype(np.float64), np.array(index, dtype=np.int64), n_groups


def reduced(rows: np.ndarray, index: np.ndarray, n_groups: int, reduce: str) -> np.ndarray:
    groups = [rows[index == group] for group in range(n_groups)]
    return np.array([REDUCTIONS[reduce](g, axis=0) if len(g) else np.zeros(rows.shape[1]) for g in groups])


@settings(deadline=None)
@given(grouped(), st.sampled_from(sorted(REDUCTIONS)))
def test_scatter_reduces_each_group(data, reduce):
    rows, index, n_groups = data
    expected = reduced(rows, index, n_groups, reduce)
    src, groups = torch.from_numpy(rows), torch.from_numpy(index)
    first = torch_scatter.scatter(src, groups, dim=0, dim_size=n_groups, reduce=reduce)
    last = torch_scatter.scatter(src.T, groups, dim=-1, dim_size=n_groups, reduce=reduce)
    full = torch_scatter.scatter(src, groups[:, None].expand_as(src), dim=0, dim_size=n_groups, reduce=reduce)
    for found in (first, last.T, full):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@settings(deadline=None)
@given(grouped(), st.sampled_from(sorted(REDUCTIONS)))
def test_segments_are_groups_of_consecutive_rows(data, reduce):
    rows, index, n_groups = data
    index = np.sort(index)
    expected = reduced(rows, index, n_groups, reduce)
    bounds = np.searchsorted(index, np.arange(n_groups + 1))
    src = torch.from_numpy(rows)
    by_index = torch_scatter.segment_coo(src, torch.from_numpy(index), dim_size=n_groups, reduce=reduce)
    by_bounds = torch_scatter.segment_csr(src, torch.from_numpy(bounds), reduce=reduce)
    np.testing.assert_allclose(by_index.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(by_bounds.numpy(), expected, atol=1e-12)


def test_segments_may_leave_out_rows_at_both_ends():
    found = torch_scatter.segment_csr(torch.arange(6), torch.tensor([1, 3, 3, 5]))
    assert found.tolist() == [1 + 2, 0, 3 + 4]


def test_the_number_of_groups_is_that_of_the_largest_index():
    assert torch_scatter.scatter(torch.ones(3), torch.tensor([0, 2, 2])).tolist() == [1, 0, 2]
    assert torch_scatter.scatter(torch.ones(0), torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_means_of_integers_are_rounded_down_by_scatter_and_cut_off_in_segments():
    rows, index = torch.tensor([1, 2, -1, -2]), torch.tensor([0, 0, 1, 1])  # means of 1.5 and -1.5
    assert torch_scatter.scatter(rows, index, reduce="mean").tolist() == [1, -2]
    assert torch_scatter.segment_coo(rows, index, reduce="mean").tolist() == [1, -1]
    assert torch_scatter.segment_csr(rows, torch.tensor([0, 2, 4]), reduce="mean").tolist() == [1, -1]


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="'median'; known: sum"):
        torch_scatter.scatter(torch.ones(1), torch.zeros(1, dtype=torch.long), reduce="median")


def test_sums_can_be_differentiated_twice():
    src = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 1, 0])
    assert torch.autograd.gradgradcheck(lambda x: torch_scatter.scatter(x**2, index, dim=0) ** 2, (src,))


@st.composite
def matrices(draw):
    """Return rows, columns and sizes of a matrix whose places may be taken more than once."""
    n_rows, n_cols = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    places = draw(st.lists(st.tuples(st.integers(0, n_rows - 1), st.integers(0, n_cols - 1)), max_size=12))
    return np.array(places, dtype=np.int64).reshape(-1, 2), n_rows, n_cols


@settings(deadline=None)
@given(matrices(), st.data())
def test_rows_are_selected_with_all_their_entries(matrix, data):
    """An entry's value is its number, so that entries of one place are told apart."""
    places, n_rows, n_cols = matrix
    chosen = data.draw(st.lists(st.integers(0, n_rows - 1), max_size=6))
    row, col = torch.from_numpy(places).T.contiguous()
    value = torch.arange(len(places))
    found = torch_sparse.SparseTensor(row=row, col=col, value=value, sparse_sizes=(n_rows, n_cols))[
        torch.tensor(chosen, dtype=torch.long)
    ]
    expected = [
        (place, int(places[entry, 1]), int(entry))
        for place, taken in enumerate(chosen)
        for entry in sorted(np.flatnonzero(places[:, 0] == taken), key=lambda entry: (places[entry, 1], entry))
    ]
    assert list(zip(*(part.tolist() for part in found.coo()), strict=True)) == expected
    assert found.storage.row().tolist() == [place for place, _, _ in expected]
    assert found.storage.col().tolist() == [column for _, column, _ in expected]
    assert found.storage.value().tolist() == [entry for _, _, entry in expected]
    assert found.sparse_sizes() == (len(chosen), n_cols)


@settings(deadline=None)
@given(matrices())
def test_rows_are_summed_as_those_of_the_dense_matrix(matrix):
    places, n_rows, n_cols = matrix
    row, col = torch.from_numpy(places).T.contiguous()
    values = np.arange(1.0, len(places) + 1)
    dense, ones = np.zeros((n_rows, n_cols)), np.zeros((n_rows, n_cols))
    np.add.at(dense, tuple(places.T), values)
    np.add.at(ones, tuple(places.T), 1)
    found = torch_sparse.SparseTensor(row, col, torch.from_numpy(values), (n_rows, n_cols))
    np.testing.assert_allclose(found.sum(dim=1).numpy(), dense.sum(axis=1))
    np.testing.assert_array_equal(found.set_value(None).sum(dim=1).numpy(), ones.sum(axis=1))
    np.testing.assert_allclose(found.sum(dim=1).numpy(), dense.sum(axis=1))  # set_value leaves it as it was
    found.set_value_(torch.zeros(len(places)), layout="coo")
    assert not found.sum(dim=1).any()
