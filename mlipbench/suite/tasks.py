"""The tasks of a suite and their parameters."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from mlipbench.elements import SYMBOLS
from mlipbench.metrics.physics import PHYSICS_METRICS
from mlipbench.metrics.probes import Probe
from mlipbench.status import Integrator, Task
from mlipbench.suite.part import Finite, Part, Seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROUNDING = 1e-6


def _symbol(symbol: str) -> str:
    if symbol not in SYMBOLS:
        raise ValueError(f"{symbol!r} is no symbol of an element")
    return symbol


class S2EFTask(Part):
    """Energies and forces of given structures.

    Attributes:
        metrics: Names of the metrics; None means all that the labels allow.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


class RelaxationTask(Part):
    """Relaxed structures and their energies, by L-BFGS with the model's own forces.

    The defaults are those of OC20's relaxations with models: fairchem's, with the options of its examples.

    Attributes:
        metrics: Names of the metrics; None means all that the labels allow.
        fmax: eV/Å; a structure is relaxed once no force on a free atom is as large.
        steps: Most steps of a structure.
        maxstep: Å; a step in which an atom would move further is shortened as a whole.
        memory: Steps that the approximate Hessian is made of.
        damping: What every step is multiplied by.
        alpha: eV/Å²; curvature that the approximate Hessian starts from.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    fmax: Finite = 0.02
    steps: PositiveInt = 300
    maxstep: Finite = 0.04
    memory: PositiveInt = 50
    damping: Finite = 1.0
    alpha: Finite = 70.0


class Distribution(StrEnum):
    """Which distribution of distances a simulation is compared by, each as MDSim defines it."""

    RDF = "rdf"  # g(r) of all pairs, whatever their elements (LiPS)
    PAIR_RDF = "pair_rdf"  # g(r) of each pair of elements (water)
    DISTANCES = "distances"  # h(r), the density of all distances (molecules)


class Criterion(StrEnum):
    """By what a simulation is no longer stable."""

    WINDOWS = "windows"  # the distribution in a window of frames differs from the reference
    BONDS = "bonds"  # a bond differs from its mean length in the reference


class Stability(Part):
    """When a simulation counts as no longer stable.

    Attributes:
        criterion: By what.
        threshold: Error of the distribution in a window, or Å by which a bond differs, beyond which it is not.
        window: Length of a window, ps; it keeps that length in short runs.
    """

    criterion: Criterion
    threshold: Finite
    window: Finite | None = None

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if (self.criterion is Criterion.WINDOWS) != (self.window is not None):
            raise ValueError("a window goes with the criterion windows, and only there")
        return self


class Diffusion(Part):
    """How a diffusivity is read off, in simulation and reference alike.

    Attributes:
        element: Symbol of the atoms that diffuse.
        start: ps that are left out at the beginning.
        spacing: ps between the frames that are taken.
        lag: Place of the lag among those between these frames, counted from 0 as MDSim does; lag 0 is one spacing.
        least: ps that a simulation must stay stable for.
    """

    element: Annotated[str, AfterValidator(_symbol)]
    start: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    spacing: Finite
    lag: Annotated[int, Field(ge=0)]
    least: Finite


class MDTask(Part):
    """Molecular dynamics from structures of the split, compared with a reference trajectory, as MDSim does.

    Attributes:
        metrics: Names of the metrics; None means all that the data allow.
        integrator: Nosé-Hoover as MDSim's, Langevin, or velocity Verlet, which conserves the energy.
        timestep: fs.
        temperature: K; also of the velocities at the start.
        thermostat_steps: Relaxation time of the Nosé-Hoover thermostat in steps (MDSim's ``ttime``).
        friction: Friction of Langevin dynamics, 1/fs.
        steps: Steps of a replica.
        save_interval: Steps between two frames.
        checkpoint_interval: Frames between two checkpoints, from which an interrupted simulation goes on.
        seeds: One for each replica; they decide start structure and velocities.
        start_frames: Places of the start structures in the split, one for each seed; None draws them by the seeds.
        skin: Å, by which neighbour lists reach beyond the cutoff of models that take them.
        reference: Split that holds the reference trajectory.
        distribution: What is compared.
        range: Å, up to which it is.
        bins: Its bins.
        stability: When a simulation is no longer stable; None never asks.
        diffusion: How the diffusivity is read off; None has none.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    integrator: Integrator = Integrator.NOSE_HOOVER
    timestep: Finite
    temperature: Finite
    thermostat_steps: Finite = 20.0
    friction: Finite = 0.01
    steps: PositiveInt
    save_interval: PositiveInt
    checkpoint_interval: PositiveInt = 20
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    start_frames: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    skin: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 1.0
    reference: str = "trajectory"
    distribution: Distribution = Distribution.RDF
    range: Finite = 6.0
    bins: PositiveInt = 500
    stability: Stability | None = None
    diffusion: Diffusion | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: one is listed twice")
        if self.start_frames is not None and len(self.start_frames) != len(self.seeds):
            raise ValueError("start_frames: give one for each seed")
        if self.steps % self.save_interval:
            raise ValueError("steps: must be a multiple of save_interval")
        frame = self.timestep * self.save_interval / 1000
        for name, value in self._times():
            if value < frame or abs(value / frame - round(value / frame)) > _ROUNDING:
                raise ValueError(f"{name}: must be a multiple of the time between frames, {frame:g} ps")
        return self

    def _times(self) -> Iterator[tuple[str, float]]:
        if self.stability is not None and self.stability.window is not None:
            yield "stability.window", self.stability.window
        if self.diffusion is not None:
            yield "diffusion.spacing", self.diffusion.spacing


class NVE(Part):
    """Dynamics without a thermostat.

    Attributes:
        timestep: fs; twice and four times as much is tried, too.
        temperature: K, of the velocities at the start.
        steps: Steps at this time step; fewer at larger ones, for the same time.
    """

    timestep: Finite = 0.5
    temperature: Finite = 300.0
    steps: Annotated[int, Field(ge=40)] = 400


class PhysicsTask(Part):
    """Probes of the laws that a model keeps, on structures of every kind; `docs/tasks/physics.md` explains them.

    No labels are needed.

    Attributes:
        metrics: Names of the metrics; None means all that the structures of a split allow.
        probes: What is tried; None tries all that the structures of a split allow.
        directions: Random directions of all coordinates along which derivatives are taken.
        rotations: Random rotations.
        draws: Random places of a single atom far away.
        nve: Dynamics without a thermostat.
        seed: Of all that is drawn.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    probes: Annotated[tuple[Probe, ...], Field(min_length=1)] | None = None
    directions: Annotated[int, Field(ge=2)] = 8
    rotations: PositiveInt = 20
    draws: PositiveInt = 30
    nve: NVE = NVE()
    seed: Seed = 0

    @model_validator(mode="after")
    def _metrics_are_tried(self) -> Self:
        for name in self.metrics or ():
            known = PHYSICS_METRICS.get(name)
            if self.probes is not None and known is not None and known.about not in self.probes:
                raise ValueError(f"metrics: {name} is taken from the probe '{known.about}', which `probes` leaves out")
        return self


class Parity(Part):
    """How far the predictions of a variant may be from those that they are compared with.

    The defaults lie far above what rounding to float32 does, and below what models are wrong by.

    Attributes:
        energy: eV for each atom; the largest difference of a structure's energy may be as large.
        forces: eV/Å; the largest difference of the force on an atom may be as large.
    """

    energy: Finite = 1e-4
    forces: Finite = 1e-3


class EfficiencyTask(Part):
    """What predictions cost: parameters, FLOPs, latency, throughput, memory, and what a step of training costs.

    All models are measured side by side: they take turns in rounds, each on the same structures, moved a little before
    every call.

    Attributes:
        metrics: Names of the metrics; None means all.
        splits: Splits that are measured, of whichever dataset has them; None takes the first of each dataset.
        structures: Most structures of a split, taken evenly spaced.
        rounds: Most rounds in which every model takes a turn.
        calls: Timed calls of a turn, each with one structure.
        seconds: Most seconds that one model is measured on one split; rounds and batch sizes that would pass it are
            left out, and a single call that takes longer ends the model's measurement.
        batch: Largest number of structures of a batch; sizes double from 1 as long as that makes a model faster.
        jitter: Å, width of the normal distribution that every coordinate is moved by.
        reference: Model that the others' times are divided by.
        seed: Of structures, order and movements.
        parity: How far variants of one model may be apart; None does not compare them.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    splits: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    structures: PositiveInt = 32
    rounds: PositiveInt = 30
    calls: PositiveInt = 4
    seconds: Finite = 60.0
    batch: PositiveInt = 64
    jitter: Annotated[float, Field(ge=0, le=0.1, allow_inf_nan=False)] = 0.01
    reference: str = "leignn"
    seed: Seed = 0
    parity: Parity | None = None

    def measured(self, evaluated: Sequence[str]) -> tuple[str, ...]:
        """Return which of the splits of a dataset are measured."""
        if self.splits is None:
            return tuple(evaluated[:1])
        return tuple(split for split in evaluated if split in self.splits)


AnyTask = S2EFTask | RelaxationTask | MDTask | PhysicsTask | EfficiencyTask


class Tasks(Part):
    """The tasks of a suite; each but `efficiency` is carried out on every split.

    Attributes:
        s2ef: Energies and forces of the structures as they are.
        relaxation: Relaxations that start from the structures.
        md: Molecular dynamics that starts from structures of the split.
        physics: Which physical laws the model keeps.
        efficiency: What predictions cost.
    """

    s2ef: S2EFTask | None = None
    relaxation: RelaxationTask | None = None
    md: MDTask | None = None
    physics: PhysicsTask | None = None
    efficiency: EfficiencyTask | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not self.chosen():
            raise ValueError(f"name at least one task; there are {', '.join(Task)}")
        return self

    def chosen(self) -> dict[Task, AnyTask]:
        """Return the tasks that the suite names, with their parameters."""
        found = {task: getattr(self, task.value) for task in Task}
        return {task: part for task, part in found.items() if part is not None}
