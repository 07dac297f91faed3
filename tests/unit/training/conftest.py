from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlipbench.structures.columnar import Split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIPBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Twelve clusters of argon and neon atoms."""
    from training_helpers import clusters_of_atoms, save

    return save(tmp_path / "columns", clusters_of_atoms(12))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy network under the name `toy`; what a training sets in torch is set back."""
    import torch
    from training_helpers import use_toy

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    use_toy(monkeypatch)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
    torch.utils.deterministic.fill_uninitialized_memory = fill
