"""The stand-ins for torch-scatter and torch-sparse against the compiled packages, where these are installed."""

from __future__ import annotations

import warnings

import pytest

pytestmark = pytest.mark.fairchem_v1

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    real_scatter = pytest.importorskip("torch_scatter", reason="needs the compiled package torch-scatter")
    real_sparse = pytest.importorskip("torch_sparse", reason="needs the compiled package torch-sparse")
if real_scatter.__name__ != "torch_scatter":
    pytest.skip("needs the compiled package torch-scatter", allow_module_level=True)

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mlipbench.adapters.stand_ins import torch_scatter, torch_sparse  # noqa: E402


@st.composite
def rows_and_groups(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    n_rows, n_groups = draw(st.integers(1, 40)), draw(st.integers(1, 8))
    shape = (n_rows, draw(st.integers(1, 4)))
    rows = torch.randn(shape, generator=generator)
    if draw(st.booleans()):
        rows = (rows * 10).long()
    return rows, torch.randint(0, n_groups, (n_rows,), generator=generator), n_groups


@settings(deadline=None)
@given(rows_and_groups(), st.sampled_from(["sum", "add", "mean", "min", "max"]))
def test_reductions(data, reduce):
    rows, index, n_groups = data
    options = {"dim_size": n_groups, "reduce": reduce}
    ours, theirs = (module.scatter(rows, index, dim=0, **options) for module in (torch_scatter, real_scatter))
    torch.testing.assert_close(ours, theirs)
    index = index.sort().values
    ours, theirs = (module.segment_coo(rows, index, **options) for module in (torch_scatter, real_scatter))
    torch.testing.assert_close(ours, theirs)
    bounds = torch.searchsorted(index, torch.arange(n_groups + 1))
    ours, theirs = (module.segment_csr(rows, bounds, reduce=reduce) for module in (torch_scatter, real_scatter))
    torch.testing.assert_close(ours, theirs)


def entries(matrix):
    """Return row, column and value of each entry; torch-sparse leaves open how those of one place are ordered."""
    return sorted(zip(*(column.tolist() for column in matrix.coo()), strict=True))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 30), st.integers(0, 8))
def test_selected_rows(seed, n_rows, n_cols, n_entries, n_chosen):
    generator = torch.Generator().manual_seed(seed)
    row = torch.randint(0, n_rows, (n_entries,), generator=generator)
    col = torch.randint(0, n_cols, (n_entries,), generator=generator)
    chosen = torch.randint(0, n_rows, (n_chosen,), generator=generator)
    ours, theirs = (
        module.SparseTensor(row=row, col=col, value=torch.arange(n_entries), sparse_sizes=(n_rows, n_cols))[chosen]
        for module in (torch_sparse, real_sparse)
    )
    for mine, other in zip(ours.coo()[:2], theirs.coo()[:2], strict=True):
        assert mine.tolist() == other.tolist()
    assert entries(ours) == entries(theirs)
    assert tuple(ours.sparse_sizes()) == tuple(theirs.sparse_sizes())
    assert ours.set_value(None).sum(dim=1).tolist() == theirs.set_value(None).sum(dim=1).long().tolist()
