import os
import sys
import threading

import numpy as np
import pytest

from mlipbench.models.interface import LoadRequest, Property
from mlipbench.protocol import Message, MessageKind, ProtocolError, batch_arrays
from mlipbench.testing.toys import SlowAdapter, SpringAdapter
from mlipbench.worker.device import CudaDevice, Peaks, Processor, find_device
from mlipbench.worker.efficiency import measure
from mlipbench.worker.session import Session

BOTH = sorted({Property.ENERGY, Property.FORCES})


class Event:
    def __init__(self, cuda):
        self.cuda = cuda

    def record(self):
        self.at = self.cuda.clock
        self.cuda.log.append("record")

    def synchronize(self):
        self.cuda.log.append("wait for event")

    def elapsed_time(self, other):
        return other.at - self.at


class Cuda:
    """Stands in for torch.cuda: a clock in milliseconds that the test moves, and a log."""

    def __init__(self):
        self.clock, self.log = 0.0, []

    def Event(self, *, enable_timing):  # noqa: N802 - as torch calls it
        assert enable_timing
        return Event(self)

    def synchronize(self, device):
        self.log.append(f"wait for {device}")

    def reset_peak_memory_stats(self, device):
        self.log.append(f"reset {device}")

    def max_memory_allocated(self, device):
        assert device == "cuda:1"
        return 123

    def mem_get_info(self, device):
        assert device == "cuda:1"
        return 1000, 5000

    def empty_cache(self):
        self.log.append("empty")


def test_a_gpu_is_waited_for_before_its_clock_is_read():
    cuda = Cuda()
    device = CudaDevice(cuda, "cuda:1")
    start = device.mark()
    cuda.clock += 250.0
    assert device.seconds(start, device.mark()) == 0.25
    assert cuda.log == ["wait for cuda:1", "record", "wait for event"] * 2


def test_peaks_of_a_gpu_are_the_allocators_and_what_is_taken_of_the_device():
    cuda = Cuda()
    device = CudaDevice(cuda, "cuda:1")
    device.reset_peaks()
    assert device.peaks() == Peaks(allocator=123, whole=4000)
    device.release()
    assert cuda.log == ["reset cuda:1", "empty"]


def test_the_peak_of_a_processor_is_forgotten_and_seen():
    device = Processor()
    device.reset_peaks()
    before = device.peaks()
    assert before.allocator is None
    held = np.ones(2**25)  # 256 MiB
    del held
    grown = device.peaks().whole
    assert grown - before.whole > 200 * 2**20
    device.reset_peaks()
    assert device.peaks().whole < grown - 150 * 2**20


def test_devices_by_name(monkeypatch):
    assert isinstance(find_device("cpu"), Processor)
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    assert isinstance(find_device("cuda:0"), Processor)  # nothing here drives it


@pytest.mark.torch
def test_a_real_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = find_device("cuda:0")
    device.reset_peaks()
    before = device.peaks()
    matrix = torch.randn(4096, 4096, device="cuda:0")
    device.mark()  # the first product loads libraries
    torch.cuda.synchronize()
    start = device.mark()
    for _ in range(10):
        product = matrix @ matrix
    seconds = device.seconds(start, device.mark())
    assert 10 * 2 * 4096**3 / 2e15 < seconds < 10  # no device does 2 PFLOP/s in float32
    peaks = device.peaks()
    assert peaks.allocator - before.allocator >= 2 * matrix.nbytes
    assert peaks.whole >= peaks.allocator
    del product
    device.release()


def asked(batch, sizes, untimed, **more):
    header = {"properties": BOTH, "sizes": sizes, "untimed": untimed, **more}
    return Message(MessageKind.MEASURE, header, batch_arrays(batch))


def session(adapter=SpringAdapter, **kwargs):
    request = LoadRequest(kwargs=kwargs)
    return Session(reply_fd=-1, loaded=adapter.load(request), request=request)


def test_calls_are_timed_one_by_one(batch):
    reply = measure(session(SlowAdapter, seconds=0.05), asked(batch, [1, 1, 1], 1))
    assert reply.kind == MessageKind.MEASURED
    assert reply.arrays["forward_seconds"].shape == (2,)
    assert (reply.arrays["forward_seconds"] >= 0.05).all()
    assert (reply.arrays["prepare_seconds"] < 0.05).all()
    assert (reply.arrays["cpu_seconds"] < 0.05).all()  # it sleeps
    assert (reply.arrays["compile_seconds"] == 0).all()
    assert reply.header["peak_memory"] > 0
    assert reply.header["peak_allocator"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not let a process choose its processors")
def test_every_thread_stays_on_the_processors_that_are_named(batch):
    usable = os.sched_getaffinity(0)
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    try:
        measure(session(), asked(batch, [3], 0, processors=[max(usable)]))
        for number in (threading.get_native_id(), thread.native_id):
            assert os.sched_getaffinity(number) == {max(usable)}
        measure(session(), asked(batch, [3], 0, processors=None))
        assert os.sched_getaffinity(0) == {max(usable)}
    finally:
        for number in (threading.get_native_id(), thread.native_id):
            os.sched_setaffinity(number, usable)
        leave.set()
        thread.join()


@pytest.mark.parametrize(
    ("sizes", "untimed"), [([1, 1], 0), ([3, 1], 0), ([], 0), ([3, 0], 0), ([3], 2), ([3], -1), ("abc", 0)]
)
def test_calls_that_do_not_divide_the_batch_are_refused(batch, sizes, untimed):
    with pytest.raises(ProtocolError):
        measure(session(), asked(batch, sizes, untimed))
