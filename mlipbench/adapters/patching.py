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
def repeatable(seed: int, device: object) -> Iterator[None]:
    """Let torch compute the same each time, and leave it as it was.

    Random numbers are drawn from the seed. On processors sums are taken in one order: gradients of gathered rows are
    else added up by several threads at once. On GPUs they differ in rounding.

    Args:
        seed: The seed.
        device: The device whose generator is seeded beside that of the CPU.
    """
    import torch

    cuda = str(device).startswith("cuda")
    strict, lenient = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill = torch.utils.deterministic.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(strict or not cuda, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = fill and strict  # costs time and guards nothing here
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=lenient)
            torch.utils.deterministic.fill_uninitialized_memory = fill
