"""Any ASE calculator as a model, by card alone."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from ase.calculators.calculator import BaseCalculator

    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch


@dataclass(frozen=True, slots=True)
class AseAdapter(Adapter):
    """Calls a calculator for one structure after the other.

    The arguments of the card are ``calculator`` (``module:Class``, a subclass of ASE's base calculator), ``arguments``
    (keyword arguments of the class) and ``pass`` (which of its keyword arguments take the ``checkpoint`` of the card,
    and the ``device`` and the ``dtype`` of the row: without it the calculator is told none of them). The energy is
    ASE's potential energy, where a calculator distinguishes it from the free energy; forces ignore constraints.

    Attributes:
        calculator: The calculator.
        supported: The properties the calculator implements.
    """

    calculator: BaseCalculator
    supported: frozenset[Property]

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Import and build the calculator.

        Raises:
            ConfigError: The arguments name no subclass of ASE's base calculator, or do not fit it, or a checkpoint
                does not reach it.
            PrerequisiteError: The module cannot be imported.
        """
        target, arguments = _arguments(request)
        kind = _calculator_class(target)
        try:
            calculator = kind(**arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{target} refuses its arguments: {error}", where="kwargs.arguments") from error
        return cls(calculator, frozenset(p for p in Property if p in calculator.implemented_properties))

    def prepare(self, batch: StructureBatch, neighbors: object | None = None) -> list[Atoms]:
        """Return the structures as ASE has them."""
        del neighbors
        return batch.to_atoms()

    def forward(self, prepared: Sequence[Atoms], properties: frozenset[Property]) -> Predictions:
        """Calculate every structure afresh.

        Raises:
            ConfigError: A property is asked for that the calculator does not implement.
        """
        lacking = properties - self.supported
        if lacking:
            raise ConfigError(f"the calculator does not predict {', '.join(sorted(lacking))}")
        reasons = _without_volume(prepared) if Property.STRESS in properties else {}
        reasons |= {s: "the structure holds no atoms" for s, atoms in enumerate(prepared) if not len(atoms)}
        energy = np.full(len(prepared), np.nan)
        stress = np.full((len(prepared), 6), np.nan)
        forces = [np.full((len(atoms), 3), np.nan) for atoms in prepared]
        for s, atoms in enumerate(prepared):
            if s in reasons:
                continue
            _forget(self.calculator)
            # the most demanding property first: many calculators find the others on the way and keep them
            if Property.STRESS in properties:
                stress[s] = self.calculator.get_stress(atoms)
            if Property.FORCES in properties:
                forces[s] = self.calculator.get_forces(atoms)
            energy[s] = self.calculator.get_potential_energy(atoms)
        _forget(self.calculator)
        return Predictions(
            energy,
            np.concatenate([np.zeros((0, 3)), *forces]) if Property.FORCES in properties else None,
            stress if Property.STRESS in properties else None,
            reasons,
        )

    def module(self) -> Any | None:
        """Return the calculator's ``torch.nn.Module`` where it keeps one as ``model``, else None."""
        model = getattr(self.calculator, "model", None)
        return model if callable(getattr(model, "parameters", None)) else None


def _arguments(request: LoadRequest) -> tuple[str, dict[str, Any]]:
    kwargs = request.kwargs
    unknown = set(kwargs) - {"calculator", "arguments", "pass"}
    if unknown:
        raise ConfigError(f"the adapter 'ase' takes no argument {min(unknown)!r}", where="kwargs")
    target = kwargs.get("calculator")
    if not isinstance(target, str) or target.count(":") != 1:
        raise ConfigError(f"{target!r} is not of the form module:Class", where="kwargs.calculator")
    arguments, passed = dict(kwargs.get("arguments") or {}), _passed(request)
    for name in arguments.keys() & passed.keys():
        raise ConfigError(f"the argument {name!r} stands in kwargs.pass, too", where="kwargs.arguments")
    return target, arguments | passed


def _passed(request: LoadRequest) -> dict[str, Any]:
    """Return what the card and the row say of the calculator, by the name of its argument."""
    names = request.kwargs.get("pass") or {}
    known = {"checkpoint": request.checkpoint, "device": request.device, "dtype": request.dtype}
    if not isinstance(names, Mapping) or not set(names) <= set(known):
        raise ConfigError(
            f"{names!r} is no mapping of {', '.join(known)} to arguments of the calculator", where="kwargs.pass"
        )
    if (request.checkpoint is None) == ("checkpoint" in names):
        said = "no argument takes the card's checkpoint" if request.checkpoint else "the card has no checkpoint to pass"
        raise ConfigError(said, where="kwargs.pass.checkpoint")
    if request.sha256 is not None and os.sep not in str(request.checkpoint):
        raise ConfigError(
            f"nobody here knows which file the calculator takes for the name {request.checkpoint!r}",
            where="checkpoint.sha256", remedy="leave it null, or name the file by its path",
        )  # fmt: skip
    return {name: known[what] for what, name in names.items()}


def _calculator_class(target: str) -> type[BaseCalculator]:
    """Import a class, and check before anything of it is called that it is a calculator."""
    from ase.calculators.calculator import BaseCalculator

    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise PrerequisiteError(
            f"the calculator {target} cannot be imported: {error}", remedy="install its package in the environment"
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseCalculator)):
        raise ConfigError(f"{target} is no subclass of ASE's base calculator", where="kwargs.calculator")
    return found


def _without_volume(structures: Sequence[Atoms]) -> dict[int, str]:
    ranks = [(s, atoms.cell.rank) for s, atoms in enumerate(structures)]
    return {s: "the stress needs three lattice vectors" for s, rank in ranks if rank < len("xyz")}


def _forget(calculator: BaseCalculator) -> None:
    """Drop what the calculator keeps of its last structure, so that nothing is answered from memory."""
    reset = getattr(calculator, "reset", None)
    if callable(reset):
        reset()
    calculator.atoms = None
    calculator.results = {}
