"""What tests of several packages share."""

from __future__ import annotations

import pytest


@pytest.fixture
def two_threads():
    """Let torch share its work between two threads, whatever the environment says."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
