"""Every seeded defect is found by the check that is made for it, and named."""

import sys

import pytest
from conformance_models import lj_subject, smooth_lj

from mlipbench.conformance.catalogue import CHECKS, run_check
from mlipbench.status import CheckStatus
from mlipbench.testing.liars import LIES, LyingAdapter

OF_TORCH = {"default dtype", "threads of torch"}
LIARS = [pytest.param(name, marks=pytest.mark.torch) if name in OF_TORCH else name for name in LIES]


def found(name, **changes):
    return run_check(LIES[name].check, lj_subject(LyingAdapter(smooth_lj(), name), **changes))


@pytest.fixture
def torch_as_it_was():
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)


@pytest.mark.usefixtures("torch_as_it_was")
@pytest.mark.parametrize("name", LIARS)
def test_a_liar_is_found_and_named(name):
    result = found(name, threads=1, calls=120)
    assert result.status is CheckStatus.FAILED, result
    assert LIES[name].words in result.problem + result.remedy
    assert result.remedy


def test_there_is_a_liar_for_every_check():
    assert {lie.check for lie in LIES.values()} == set(CHECKS)
