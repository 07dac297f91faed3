"""States of a process and of foreign modules that hold for a moment only."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute, and set it back at the end of the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def seeded(seed: int, device: object) -> Iterator[None]:
    """Let torch draw the same random numbers each time, and leave its generators as they were.

    Args:
        seed: The seed.
        device: The device whose generator is seeded beside that of the CPU.
    """
    import torch

    with torch.random.fork_rng(devices=[device] if str(device).startswith("cuda") else []):
        torch.manual_seed(seed)
        yield
