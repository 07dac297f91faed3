"""MACE models with random weights, made by the package's own classes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from pathlib import Path

ELEMENTS = (1, 6, 7, 8, 29)


def make_mace(heads: tuple[str, ...] = ("Default",), dtype: torch.dtype = torch.float32, **options) -> torch.nn.Module:
    """Return a small ScaleShiftMACE; the weights depend on nothing but the arguments."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what e3nn and TorchScript say of themselves
            return _make(heads, options)
    finally:
        torch.set_default_dtype(before)


def _make(heads: tuple[str, ...], options) -> torch.nn.Module:
    from e3nn import o3
    from mace import modules

    energies = np.array([[-(1.0 + z / 3 + head) for z in ELEMENTS] for head in range(len(heads))])
    many = len(heads) > 1
    return modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps("16x0e + 16x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=energies if many else energies[0],
        avg_num_neighbors=20.0,
        atomic_numbers=list(ELEMENTS),
        correlation=3,
        atomic_inter_scale=[1.3, 0.7][: len(heads)] if many else 1.3,
        atomic_inter_shift=[0.2, -0.1][: len(heads)] if many else 0.2,
        heads=list(heads),
        **options,
    )


def save_mace(path: Path, *args, **kwargs) -> Path:
    """Write such a model as mace-torch does."""
    torch.save(make_mace(*args, **kwargs), path)
    return path
