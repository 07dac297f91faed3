"""What a task asks a worker for with each batch of structures, and the columns it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.metrics.probes import FINDINGS, Probe
from mlipbench.models.interface import Property
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.typing import AnyArray


@dataclass(frozen=True, slots=True)
class Output:
    """One column of an answer.

    Attributes:
        name: Its name in messages and in the file of predictions.
        stored: numpy's name of the type it is stored in; floating-point numbers travel as float64.
        per_atom: Whether it has one row for each atom rather than for each structure.
        width: Numbers of a row that is a vector; None for a single number.
    """

    name: str
    stored: str
    per_atom: bool = False
    width: int | None = None

    def shape(self, n_structures: int, n_atoms: int) -> tuple[int, ...]:
        """Return the shape of the column for so many structures and atoms."""
        rows = n_atoms if self.per_atom else n_structures
        return (rows,) if self.width is None else (rows, self.width)

    def blank(self, n_structures: int, n_atoms: int) -> AnyArray:
        """Return a column of nothing: NaN, zero or False."""
        kind = np.dtype(self.stored)
        shape = self.shape(n_structures, n_atoms)
        return np.full(shape, np.nan) if kind.kind == "f" else np.zeros(shape, dtype=kind)


OUTPUTS: Final[Mapping[Task, tuple[Output, ...]]] = MappingProxyType(
    {
        Task.S2EF: (
            Output("energy", "<f8"),
            Output("forces", "<f4", per_atom=True, width=3),
            Output("stress", "<f4", width=6),
        ),
        Task.RELAXATION: (
            Output("energy", "<f8"),
            Output("positions", "<f8", per_atom=True, width=3),
            Output("steps", "<i4"),
            Output("converged", "|b1"),
            Output("fmax", "<f8"),
        ),
        Task.MD: (
            Output("seed", "<i8"),
            Output("steps", "<i8"),
            Output("end", "|u1"),
        ),
        Task.PHYSICS: tuple(Output(name, "<f8") for name in FINDINGS),
        Task.EFFICIENCY: (),
    }
)
"""The columns of each task: s2ef in eV, eV/Å and eV/Å³; relaxation: relaxed energy in eV, relaxed positions in Å, steps
taken, whether the forces fell below the limit, and the largest force on a free atom in eV/Å; md: seed, steps completed
and `mlipbench.dynamics.End` of each replica, whose frames stand in a trajectory; physics: what
`mlipbench.metrics.probes.PhysicsFindings` explains; efficiency: none, its calls stand in
``timings.parquet``."""


@dataclass(frozen=True, slots=True)
class PhysicsFacts:
    """What a worker must know to probe a model, beside the parameters of the task.

    Attributes:
        precisions: Those that the card declares.
        elements: Atomic numbers that the model knows, as splits may hold others; None does not ask.
        probes: What is tried.
    """

    precisions: tuple[str, ...]
    elements: tuple[int, ...] | None
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What a worker is asked to do with each batch of a split.

    Attributes:
        properties: What is asked of the model.
        task: The task.
        parameters: Its parameters by name; see the suite's schema.
        physics: Of the task ``physics``, what else is to be known; no part of what numbers are compared by.
    """

    properties: frozenset[Property]
    task: Task = Task.S2EF
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    physics: PhysicsFacts | None = None

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The columns of the answer: for s2ef the energy and what else was asked for, for other tasks all of them."""
        every = OUTPUTS[self.task]
        if self.task is not Task.S2EF:
            return every
        return tuple(output for output in every if output.name in {Property.ENERGY, *self.properties})
