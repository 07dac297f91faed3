"""Probes of a model's physics, beside the model: what each structure of a batch shows of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlipbench.elements import format_elements
from mlipbench.metrics.probes import FINDINGS, PROBES, Probe
from mlipbench.protocol import Message, MessageKind, ProtocolError, batch_from_arrays
from mlipbench.structures.kinds import kind_of
from mlipbench.tasks import PhysicsFacts
from mlipbench.worker.physics.continuity import probe_continuity
from mlipbench.worker.physics.curves import probe_atom, probe_bonds, probe_diatomic, probe_volume
from mlipbench.worker.physics.dynamics import NVE, probe_dynamics
from mlipbench.worker.physics.gradient import probe_gradient
from mlipbench.worker.physics.model import DeclinedError, Model, NotFiniteError
from mlipbench.worker.physics.separation import probe_extensivity, probe_locality, probe_size_consistency
from mlipbench.worker.physics.symmetry import (
    probe_net_force,
    probe_net_torque,
    probe_precision,
    probe_rotations,
)
from mlipbench.worker.s2ef import reply_header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray
    from mlipbench.worker.session import Session


@dataclass(frozen=True, slots=True)
class Parameters:
    """How much is probed; `mlipbench.suite.tasks.PhysicsTask` explains the fields.

    Attributes:
        directions: Directions of derivatives.
        rotations: Random rotations.
        draws: Places of a single atom far away.
        nve: Dynamics.
        seed: Of all that is drawn.
        facts: What else is to be known.
    """

    directions: int
    rotations: int
    draws: int
    nve: NVE
    seed: int
    facts: PhysicsFacts

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Self:
        """Return what a request says.

        Raises:
            ProtocolError: It does not say all of it.
        """
        try:
            given = dict(header["parameters"])
            return cls(**given | {"nve": NVE(**given["nve"])}, facts=PhysicsFacts(**header["physics"]))
        except (KeyError, TypeError) as error:
            raise ProtocolError("a request to probe physics does not name its parameters") from error


def probe(session: Session, message: Message) -> Message:
    """Answer a ``probe`` request: make all probes that apply to each structure of its batch.

    After every call of the model the harness is told that the worker is alive. A structure that the model does not
    take, or that a probe makes of it and the model does not take, is declined, with the name of the probe.

    Raises:
        ProtocolError: The request has no parameters, or others.
        WorkerError: The adapter returned something other than the predictions asked for.
    """
    batch, parameters = batch_from_arrays(message.arrays), Parameters.of(message.header)
    cold = session.warm_up.is_cold(batch)
    model = Model.of(session, batch)
    other = _in_other_precision(model, parameters.facts)
    columns = {name: np.full(batch.n_structures, np.nan) for name in FINDINGS}
    reasons: dict[int, str] = {}
    declined: dict[int, str] = {}
    for index in range(batch.n_structures):
        try:
            found = probe_structure(model, other, batch.slice(index, index + 1), parameters)
        except DeclinedError as error:
            declined[index] = str(error)
        except NotFiniteError as error:
            reasons[index] = str(error)
        else:
            for name, value in found.items():
                columns[name][index] = value
    ok = np.array(
        [index not in declined and index not in reasons for index in range(batch.n_structures)], dtype=np.bool_
    )
    arrays: dict[str, AnyArray] = {**columns, "ok": ok}
    return Message(MessageKind.PREDICTED, reply_header(model.timing, reasons, declined, cold=cold), arrays)


def probe_structure(
    model: Model, other: Model | None, structure: StructureBatch, parameters: Parameters
) -> dict[str, float]:
    """Return all that is found in one structure, by the names of `mlipbench.metrics.probes.FINDINGS`.

    Args:
        model: The model.
        other: The same in its other precision, where it has one.
        structure: A single structure.
        parameters: How much is probed.

    Raises:
        DeclinedError: The model does not take the structure, or one that a probe made of it.
        NotFiniteError: A prediction is not finite.
        WorkerError: The adapter returned something other than predictions.
    """
    known = parameters.facts.elements
    foreign = set() if known is None else set(structure.numbers.tolist()) - set(known)
    if foreign:
        raise DeclinedError(f"the model does not cover {format_elements(foreign)}")
    kind = kind_of(structure)
    found: dict[str, float] = {}
    for probe, run in _probes(model, other, structure, parameters).items():
        if probe not in parameters.facts.probes or kind not in PROBES[probe]:
            continue
        try:
            found |= run()
        except (DeclinedError, NotFiniteError) as error:
            raise type(error)(f"{probe}: {error}") from error
    return found


def _probes(
    model: Model, other: Model | None, structure: StructureBatch, parameters: Parameters
) -> dict[Probe, Callable[[], dict[str, float]]]:
    """Return how each probe is made on a structure."""
    seed = parameters.seed
    return {
        Probe.LONE_ATOM: lambda: probe_atom(model, structure),
        Probe.GRADIENT: lambda: probe_gradient(model, structure, parameters.directions, seed),
        Probe.NET_FORCE: lambda: probe_net_force(model, structure),
        Probe.NET_TORQUE: lambda: probe_net_torque(model, structure),
        Probe.ROTATION: lambda: probe_rotations(model, structure, parameters.rotations, seed),
        Probe.EXTENSIVITY: lambda: probe_extensivity(model, structure, seed),
        Probe.SIZE_CONSISTENCY: lambda: probe_size_consistency(model, structure),
        Probe.LOCALITY: lambda: probe_locality(model, structure, parameters.draws, seed),
        Probe.CONTINUITY: lambda: probe_continuity(model, structure),
        Probe.DIATOMIC: lambda: probe_diatomic(model, structure),
        Probe.BONDS: lambda: probe_bonds(model, structure),
        Probe.VOLUMES: lambda: probe_volume(model, structure),
        Probe.DYNAMICS: lambda: probe_dynamics(model, structure, parameters.nve, seed),
        Probe.PRECISION: lambda: {} if other is None else probe_precision(model, other, structure),
    }


def _in_other_precision(model: Model, facts: PhysicsFacts) -> Model | None:
    """Return the same weights in another precision of the card; None where it declares one alone, or nobody asks.

    It is loaded once for a worker.
    """
    session = model.session
    request = session.request if Probe.PRECISION in facts.probes else None
    others = [one for one in facts.precisions if request is not None and one != request.dtype]
    if request is None or not others:
        return None
    if session.other is None:
        session.other = type(session.adapter).load(replace(request, dtype=others[0]))
    return replace(model, session=replace(session, loaded=session.other, request=replace(request, dtype=others[0])))
