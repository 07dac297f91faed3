from dataclasses import replace

import pytest

from mlipbench.conformance.exchange import Examination
from mlipbench.conformance.samples import build_samples
from mlipbench.execution.requests import examine_message
from mlipbench.models.interface import (
    Capabilities,
    EnergyReference,
    ForceKind,
    LoadRequest,
    Need,
    NeighborSource,
    Property,
)
from mlipbench.protocol import Message, MessageKind, ProtocolError, decode, encode
from mlipbench.status import CheckStatus
from mlipbench.testing import toys
from mlipbench.worker.conformance import examine
from mlipbench.worker.session import Session

CAPABILITIES = Capabilities(
    properties=frozenset(Property),
    forces=ForceKind.CONSERVATIVE,
    elements=frozenset({1, 8}),
    energy_reference=EnergyReference.ATOMIZATION,
    needs=frozenset({Need.CHARGE, Need.SPIN}),
    dtypes=("float32", "float64"),
    neighbors=NeighborSource.HARNESS,
)
EXAMINATION = Examination(CAPABILITIES, build_samples(CAPABILITIES.elements, CAPABILITIES), {1: -13.6, 8: -2000.5})


def sent(message):
    return decode(b"".join(encode(message)))


def session(adapter=toys.SpringAdapter, **kwargs):
    request = LoadRequest(dtype="float64", kwargs=kwargs)
    return Session(reply_fd=-1, loaded=adapter.load(request), request=request)


def test_everything_arrives_as_it_was_sent():
    message = sent(examine_message("output", EXAMINATION, 2))
    found = Examination.unpack(message.header, EXAMINATION.pack()[1])
    assert found.capabilities == CAPABILITIES
    assert found.references == {1: -13.6, 8: -2000.5}
    assert [len(kind) for kind in (found.samples.molecules, found.samples.atoms)] == [2, 2]
    assert (found.samples.slabs[0].positions == EXAMINATION.samples.slabs[0].positions).all()
    assert found.samples.slabs[0].spin == EXAMINATION.samples.slabs[0].spin
    assert replace(found.capabilities, elements=None).elements is None


def test_one_request_makes_one_check():
    reply = examine(session(), sent(examine_message("rotation", EXAMINATION, 1)))
    assert reply.kind == MessageKind.EXAMINED
    assert reply.header["check"] == "rotation"
    assert reply.header["status"] == CheckStatus.PASSED
    assert reply.header["value"] <= reply.header["tolerance"]


def test_what_an_adapter_raises_is_the_outcome():
    reply = examine(session(toys.RaiseAdapter), sent(examine_message("rotation", EXAMINATION, 1)))
    assert reply.header["status"] == CheckStatus.FAILED
    assert reply.header["problem"] == "the adapter raised RuntimeError: no parameters for element None"


@pytest.mark.parametrize("missing", ["check", "capabilities", "samples", "references"])
def test_a_request_that_lacks_something_is_refused(missing):
    whole = examine_message("output", EXAMINATION, 1)
    header = {name: value for name, value in whole.header.items() if name != missing}
    with pytest.raises(ProtocolError, match="incomplete"):
        examine(session(), sent(Message(MessageKind.EXAMINE, header, whole.arrays)))


def test_an_unknown_check_is_refused():
    with pytest.raises(ProtocolError, match="there is no check 'beauty'"):
        examine(session(), sent(examine_message("beauty", EXAMINATION, 1)))
