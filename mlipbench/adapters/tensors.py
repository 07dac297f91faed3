"""Arrays of a batch as tensors on a device, and back; imports torch when it is asked to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from mlipbench.adapters.coverage import Coverage
    from mlipbench.typing import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class PreparedArrays:
    """A batch on the device.

    Attributes:
        coverage: Which structures it holds.
        arrays: What the network takes.
    """

    coverage: Coverage
    arrays: dict[str, torch.Tensor]


def floats(values: Any, device: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return numbers as a tensor of its own, in float64 unless a precision is given."""
    import torch

    return torch.from_numpy(np.array(values, dtype=np.float64)).to(device=device, dtype=dtype)


def indices(values: Any, device: str) -> torch.Tensor:
    """Return whole numbers as a tensor of its own, in int64."""
    import torch

    return torch.from_numpy(np.array(values, dtype=np.int64)).to(device)


def host(values: torch.Tensor) -> FloatArray:
    """Return a tensor as an array, in float64."""
    import torch

    array: FloatArray = values.detach().to(device="cpu", dtype=torch.float64).numpy()
    return array
