"""Our own networks, with random weights, fail no check of conformance."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from net_checkpoints import save_network  # noqa: E402 - after torch

from mlipbench.adapters.nets import NetsAdapter  # noqa: E402
from mlipbench.conformance.catalogue import CHECKS, run_check  # noqa: E402
from mlipbench.conformance.samples import build_samples  # noqa: E402
from mlipbench.conformance.subject import Subject  # noqa: E402
from mlipbench.models.interface import LoadRequest  # noqa: E402
from mlipbench.models.registry import load_card  # noqa: E402
from mlipbench.status import CheckStatus  # noqa: E402

pytestmark = pytest.mark.torch
REFERENCE = {1: -3.0, 8: -5.0, 29: -4.0}
SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in (("painn", "float32"), ("cgcnn", "float64"))]
CASES = [("painn", "float64"), ("schnet", "float32"), *SLOW]


def stirred(adapter):
    """Return a network without parameters that are zero, which could hide failures."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.module().parameters():
            if not parameter.any():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return adapter


@pytest.mark.parametrize(("net", "dtype"), CASES)
def test_networks_fail_no_check(net, dtype, tmp_path):
    save_network(tmp_path, net, per_element=REFERENCE)
    declared = load_card(tmp_path).declared()
    subject = Subject(
        adapter=stirred(NetsAdapter.load(LoadRequest(checkpoint=str(tmp_path), dtype=dtype))),
        capabilities=declared,
        samples=build_samples(declared.elements, declared),
        dtype=dtype,
        references=REFERENCE,
        calls=400,
    )
    found = {name: run_check(name, subject) for name in CHECKS}
    assert {name: one for name, one in found.items() if one.status is CheckStatus.FAILED} == {}
    assert found["force_units"].note.startswith("slope 1.000")
    assert found["force_gradient"].status is CheckStatus.PASSED
