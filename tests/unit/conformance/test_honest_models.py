"""Correct models fail no check."""

import pytest
from conformance_models import emt_subject, lj_subject

from mlipbench.conformance.catalogue import CHECKS, run_check
from mlipbench.status import CheckStatus


@pytest.fixture(scope="module", params=["lj", "emt"])
def subject(request):
    return {"lj": lj_subject, "emt": emt_subject}[request.param]()


@pytest.mark.parametrize("name", CHECKS)
def test_correct_models_pass(subject, name):
    result = run_check(name, subject)
    assert result.status is CheckStatus.PASSED, result
    assert result.check == name
