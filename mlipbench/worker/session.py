"""What a worker holds between two requests."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ConfigError
from mlipbench.protocol import encode
from mlipbench.worker.device import find_device

if TYPE_CHECKING:
    from mlipbench.models.interface import Adapter, LoadRequest
    from mlipbench.protocol import Message
    from mlipbench.structures import StructureBatch
    from mlipbench.worker.device import Device

_WARM_UP_CALLS: Final = 2
_MAX_BUFFERS: Final = 512  # one system call takes at most 1024


@dataclass(slots=True)
class WarmUp:
    """Tells first calls at a new size, whose time is mostly page faults and set-up, from the others.

    Attributes:
        calls: Calls seen so far.
        structures: Largest number of structures seen in one call.
        atoms: Largest number of atoms seen in one call.
    """

    calls: int = 0
    structures: int = 0
    atoms: int = 0

    def is_cold(self, batch: StructureBatch) -> bool:
        """Return whether a call on `batch` is one of the first two or larger than all before; remember it."""
        cold = self.calls < _WARM_UP_CALLS or batch.n_atoms > self.atoms or batch.n_structures > self.structures
        self.calls += 1
        self.structures = max(self.structures, batch.n_structures)
        self.atoms = max(self.atoms, batch.n_atoms)
        return cold


@dataclass(slots=True)
class Session:
    """The state of a worker.

    Attributes:
        reply_fd: Where replies are written.
        loaded: The adapter, None before ``load``.
        request: What the adapter was loaded with, None before ``load``.
        other: The same weights in another precision, None before somebody needs them.
        warm_up: Sizes seen so far.
    """

    reply_fd: int
    loaded: Adapter | None = None
    request: LoadRequest | None = None
    other: Adapter | None = None
    warm_up: WarmUp = field(default_factory=WarmUp)

    @property
    def adapter(self) -> Adapter:
        """The loaded adapter.

        Raises:
            ConfigError: Nothing is loaded.
        """
        if self.loaded is None:
            raise ConfigError("no model is loaded in this worker")
        return self.loaded

    def send(self, message: Message) -> None:
        """Write one message to the harness; blocks while the pipe is full."""
        buffers = [memoryview(buffer) for buffer in encode(message)]
        while buffers:
            written = os.writev(self.reply_fd, buffers[:_MAX_BUFFERS])
            while buffers and written >= len(buffers[0]):
                written -= len(buffers.pop(0))
            if written:
                buffers[0] = buffers[0][written:]

    @property
    def device(self) -> Device:
        """What the loaded adapter runs on; the processor before anything is loaded."""
        return find_device("cpu" if self.request is None else self.request.device)
