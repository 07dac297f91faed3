import numpy as np
import pytest

from mlipbench.execution.requests import verify_message
from mlipbench.models.interface import Adapter, LoadRequest, Property
from mlipbench.protocol import decode, encode
from mlipbench.tasks import TaskRequest
from mlipbench.testing import toys
from mlipbench.worker.consistency import verify
from mlipbench.worker.session import Session

EFS = TaskRequest(frozenset(Property))


class Disturbed(toys.SpringAdapter):
    """Adds `kwargs[name]` to one number of the last structure of a batch of several."""

    def forward(self, prepared, properties):
        predictions = super().forward(prepared, properties)
        if prepared.n_structures > 1:
            for name, size in self.kwargs.items():
                getattr(predictions, name).reshape(-1)[-1] += size
        return predictions


def reason(adapter_class: type[Adapter], batch, dtype="float64", **kwargs):
    request = LoadRequest(dtype=dtype, kwargs=kwargs)
    session = Session(reply_fd=-1, loaded=adapter_class.load(request), request=request)
    message = decode(b"".join(encode(verify_message(batch, EFS))))
    return verify(session, message).header["reason"]


def test_honest_models_pass(batch):
    assert reason(toys.SpringAdapter, batch) is None
    assert reason(toys.NullAdapter, batch, "float32") is None


@pytest.mark.parametrize("adapter", [toys.WrongOrderAdapter, toys.BatchMatesAdapter])
def test_liars_do_not(batch, adapter):
    for dtype in ("float32", "float64"):
        assert reason(adapter, batch, dtype).endswith("wrong order or dependence on batch mates")


@pytest.mark.parametrize(
    ("dtype", "name", "passes", "fails"),
    [
        ("float64", "energy", 2e-5, 5e-5),  # 3 atoms: 3e-5 eV
        ("float32", "energy", 2e-4, 5e-4),
        ("float64", "forces", 9e-5, 2e-4),
        ("float32", "forces", 9e-4, 5e-3),
        ("float32", "stress", 9e-4, 5e-3),
    ],
)
def test_tolerances(batch, dtype, name, passes, fails):
    assert reason(Disturbed, batch, dtype, **{name: passes}) is None
    assert reason(Disturbed, batch, dtype, **{name: fails}).startswith(
        f"structure 2 alone and in a batch of 3 differ ({name} by "
    )


def test_nan_that_spreads_over_a_batch_is_seen_and_nan_of_its_own_is_not(batch):
    assert "forces is finite in one of the two only" in reason(Disturbed, batch, forces=np.nan)
    assert reason(toys.NaNAdapter, batch) is None
