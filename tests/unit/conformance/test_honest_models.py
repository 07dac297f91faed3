"""Correct models fail no check."""

import sys

import pytest
from conformance_models import emt_subject, lj_subject

from mlipbench.conformance.catalogue import CHECKS, run_check
from mlipbench.status import CheckStatus


@pytest.fixture(scope="module", params=["lj", "emt"])
def subject(request):
    return {"lj": lj_subject, "emt": emt_subject}[request.param]()


def expected(subject, name):
    """EMT counts from bulk metals, and nothing says what a single atom has then; torch may not be there."""
    emt = not subject.references
    without_torch = name == "default_dtype" and "torch" not in sys.modules
    nothing = without_torch or (emt and name == "energy_reference")
    return CheckStatus.NOT_APPLICABLE if nothing else CheckStatus.PASSED


@pytest.mark.parametrize("name", CHECKS)
def test_correct_models_pass(subject, name):
    result = run_check(name, subject)
    assert result.status is expected(subject, name), result
    assert result.check == name
