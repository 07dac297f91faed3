"""Pickles that torch and PyTorch Geometric themselves write."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
from pickle_helpers import done, storage, view

from mlipbench.datasets.tensor_pickle import decode

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_data_as_it_is_pickled(protocol: int) -> None:
    import torch
    from torch_geometric.data import Data

    fields: dict[str, Any] = {
        "pos": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
        "atomic_numbers": torch.tensor([29, 29, 8, 1]),
        "cell": torch.eye(3, dtype=torch.float64)[None],
        "fixed": torch.tensor([True, False, False, False]),
        "edge_index": torch.zeros(2, 0, dtype=torch.long),
        "view": torch.arange(24.0).reshape(4, 6).T[1:, ::2],
        "y": -1.5,
        "natoms": 4,
    }
    back = decode(pickle.dumps(Data(**fields), protocol))
    assert set(back) >= set(fields)
    for name, expected in fields.items():
        if isinstance(expected, torch.Tensor):
            np.testing.assert_array_equal(back[name], expected.numpy())
            assert back[name].dtype == expected.numpy().dtype
        else:
            assert back[name] == expected


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_storage_in_both_formats(zipped: bool) -> None:
    import torch

    file = io.BytesIO()
    torch.save(torch.arange(6.0).storage(), file, _use_new_zipfile_serialization=zipped)
    np.testing.assert_array_equal(
        decode(done(view(storage(file.getvalue()), 0, (2, 3), (3, 1)))), [[0, 1, 2], [3, 4, 5]]
    )
