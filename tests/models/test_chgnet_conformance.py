"""CHGNet fails no check of conformance."""

from __future__ import annotations

import pytest

pytest.importorskip("chgnet", reason="needs the package chgnet")

from mlipbench.conformance.catalogue import CHECKS, run_check
from mlipbench.status import CheckStatus
from mlipbench.testing.conformance import load_subject

pytestmark = pytest.mark.chgnet


@pytest.mark.parametrize("name", CHECKS)
def test_chgnet_passes(name):
    result = run_check(name, load_subject("chgnet", calls=400))
    assert result.status is CheckStatus.PASSED, result
