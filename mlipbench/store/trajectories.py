"""Trajectories of one batch of replicas: a ledger of blocks while they run, one file for each replica when they ended.

A block ends with a checkpoint: all that the next step depends on. The files are ASE's ``.traj``, which ASE and programs
built on it open: positions that are not wrapped, momenta and potential energies, all in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.dynamics import RUNNING, Frames, State
from mlipbench.errors import DiskFilledError, ResultsError, StorageError
from mlipbench.protocol import Message
from mlipbench.store.files import replacing
from mlipbench.store.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray, IntArray

_BLOCK: Final = "block"


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What replicas did from one checkpoint to the next.

    Attributes:
        frames: What was recorded.
        state: The checkpoint.
        timing: Seconds and calls, as `mlipbench.execution.outcome.Timing`.
    """

    frames: Frames
    state: State
    timing: Mapping[str, Any]


class TrajectoryLedger:
    """The blocks of one batch of replicas, on disk as soon as they are known.

    Args:
        path: The file; created where it is missing, a torn tail is dropped.

    Raises:
        MlipbenchError: It cannot be written, for instance because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        """Open the ledger and look for its blocks."""
        self._ledger = Ledger(path)
        self._positions = [position for position, _ in self._ledger.messages()]
        last = self.last()
        self._kept = 0 if last is None else last.step

    def append(self, block: Block) -> None:
        """Store a block.

        Raises:
            MlipbenchError: The disk is full or the file cannot be written.
        """
        position = self._ledger.end
        header = {"state": block.state.header(), "timing": dict(block.timing)}
        try:
            self._ledger.append(Message(_BLOCK, header, {**block.state.arrays(), **block.frames.arrays()}))
        except StorageError as error:
            raise DiskFilledError(
                f"{error.problem}; what was simulated up to step {self._kept} is kept",
                file=self._ledger.path, remedy=error.remedy,
            ) from error  # fmt: skip
        self._positions.append(position)
        self._kept = block.state.step

    def last(self) -> State | None:
        """Return the last checkpoint, None where there is none yet."""
        return State.from_message(self._ledger.read(self._positions[-1])) if self._positions else None

    def blocks(self) -> Iterator[Block]:
        """Iterate over the blocks, oldest first."""
        for position in self._positions:
            message = self._ledger.read(position)
            state = State.from_message(message)
            yield Block(Frames.from_arrays(message.arrays), state, message.header["timing"])

    def close(self) -> None:
        """Close the file and leave it for a later run."""
        self._ledger.close()

    def remove(self) -> None:
        """Close the file and delete it."""
        self._ledger.close()
        self._ledger.path.unlink()


def write_trajectories(ledger: TrajectoryLedger, replicas: StructureBatch, paths: list[Path]) -> None:
    """Write the trajectory of each replica up to its end.

    Args:
        ledger: The blocks.
        replicas: The replicas at their start.
        paths: One file for each replica.

    Raises:
        MlipbenchError: The disk is full or a file cannot be written.
    """
    last = ledger.last()
    for place, path in enumerate(paths):
        ended = RUNNING if last is None else int(last.ended[place])
        _write(ledger, replicas.slice(place, place + 1), _Part.of(replicas, place, ended), path)


@dataclass(frozen=True, slots=True)
class _Part:
    """One replica among those of a batch.

    Attributes:
        place: Its place.
        atoms: Its atoms.
        ended: Its last step, `RUNNING` where it has none.
    """

    place: int
    atoms: slice
    ended: int

    @classmethod
    def of(cls, replicas: StructureBatch, place: int, ended: int) -> _Part:
        return cls(place, slice(int(replicas.offsets[place]), int(replicas.offsets[place + 1])), ended)


def _write(ledger: TrajectoryLedger, replica: StructureBatch, part: _Part, path: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io.trajectory import TrajectoryWriter

    atoms = replica.to_atoms()[0]
    atoms.set_constraint()
    with replacing(path) as temporary, TrajectoryWriter(temporary, "w") as writer:
        for block in ledger.blocks():
            frames = block.frames
            for number in range(len(frames.steps)):
                step = int(frames.steps[number])
                if part.ended != RUNNING and step > part.ended:
                    return
                atoms.positions[:] = frames.positions[number, part.atoms]
                atoms.set_velocities(frames.velocities[number, part.atoms])
                energy = float(frames.energy[number, part.place])
                atoms.calc = SinglePointCalculator(atoms, energy=energy)
                writer.write(atoms)


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The stored frames of one replica.

    Attributes:
        numbers: Shape (n_atoms,), atomic numbers.
        masses: Shape (n_atoms,), u.
        cell: Shape (3, 3), Å.
        pbc: Shape (3,).
        positions: Shape (n_frames, n_atoms, 3), Å, not wrapped.
        velocities: Shape (n_frames, n_atoms, 3), Å per ASE unit of time.
        energy: Shape (n_frames,), eV.
    """

    numbers: IntArray
    masses: FloatArray
    cell: FloatArray
    pbc: Any
    positions: FloatArray
    velocities: FloatArray
    energy: FloatArray


def read_trajectory(path: Path) -> Trajectory:
    """Read the trajectory of a replica.

    Raises:
        ResultsError: The file is missing or damaged.
    """
    from ase.io.trajectory import TrajectoryReader

    try:
        with TrajectoryReader(path) as reader:
            frames = [reader[number] for number in range(len(reader))]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ResultsError(f"the trajectory cannot be read: {error}", file=path) from None
    if not frames:
        raise ResultsError("the trajectory holds no frame", file=path)
    first = frames[0]
    return Trajectory(
        numbers=first.numbers.astype(np.int64),
        masses=first.get_masses(),
        cell=first.cell.array,
        pbc=first.pbc,
        positions=np.stack([atoms.positions for atoms in frames]),
        velocities=np.stack([atoms.get_velocities() for atoms in frames]),
        energy=np.asarray([atoms.get_potential_energy() for atoms in frames]),
    )
