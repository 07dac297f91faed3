"""A correct adapter made wrong in one way at a time: what a conformance suite has to find, and by which check.

A card or a test names it as ``mlipbench.testing.liars:LyingAdapter`` with ``of``, the honest adapter as
``module:Class``, and ``lie``, one of `LIES`; whatever else stands in ``kwargs`` is the honest adapter's.
"""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.models.interface import Adapter, LoadRequest, Predictions, Property
from mlipbench.structures.neighbors import neighbor_list
from mlipbench.testing import lies
from mlipbench.units import ENERGY, LENGTH, STRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.structures import StructureBatch
    from mlipbench.testing.lies import Link, See, Tell

_HOARD: Final = 2**14


@dataclass(frozen=True, slots=True)
class Lie:
    """One way to be wrong.

    Attributes:
        check: Name of the check that finds it.
        words: What the check says of it.
        tell: Makes what is told of what was predicted.
        see: Makes what the honest adapter is given.
        link: Which neighbours of a list it is given, where that one takes lists.
        remember: Makes what `tell` is, anew for each adapter: it keeps something from call to call.
    """

    check: str
    words: str
    tell: Tell | None = None
    see: See | None = None
    link: Link | None = None
    remember: Callable[[], Tell] | None = None


class LyingAdapter(Adapter):
    """An adapter that lies about what another one predicts.

    Args:
        honest: The other one.
        lie: Name of the lie.
    """

    def __init__(self, honest: Adapter, lie: str) -> None:
        """Begin without anything kept from earlier calls."""
        self.honest = honest
        self.lie = LIES[lie]
        self._tell = self.lie.tell if self.lie.remember is None else self.lie.remember()

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load the honest adapter."""
        kwargs = dict(request.kwargs)
        module, _, name = kwargs.pop("of").partition(":")
        lie = kwargs.pop("lie")
        return cls(getattr(importlib.import_module(module), name).load(replace(request, kwargs=kwargs)), lie)

    def prepare(self, batch: StructureBatch, neighbors: Any | None = None) -> tuple[StructureBatch, Any]:
        """Prepare the batch, or something like it."""
        seen = batch if self.lie.see is None else self.lie.see(batch)
        if self.lie.link is not None and self.honest.cutoff is not None:
            found = neighbor_list(seen, self.honest.cutoff)
            neighbors = lies.linked(found, self.lie.link(seen, found))
        return batch, self.honest.prepare(seen, neighbors)

    def forward(self, prepared: tuple[StructureBatch, Any], properties: frozenset[Property]) -> Predictions:
        """Predict, and tell something else."""
        found = self.honest.forward(prepared[1], properties)
        return found if self._tell is None else self._tell(prepared[0], found, properties)


class Memory:
    """What liars keep from call to call.

    Attributes:
        results: What was told before, by the atoms it was told of.
        hoard: What nobody needs any more.
        stop: Lets threads that were started end.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.results: dict[bytes, Predictions] = {}
        self.hoard: list[object] = []
        self.stop = threading.Event()

    def cached(self, batch: StructureBatch, found: Predictions, properties: frozenset[Property]) -> Predictions:
        """Tell what was told of the last structures with the same atoms and cells."""
        key = repr(sorted(properties)).encode() + b"".join(
            column.tobytes() for column in (batch.numbers, batch.cell, batch.pbc, batch.offsets)
        )
        return self.results.setdefault(key, found)

    def reused(self, _: StructureBatch, found: Predictions, __: frozenset[Property]) -> Predictions:
        """Tell in an array that the next call writes to."""
        if found.forces is None:
            return found
        if not self.hoard:
            self.hoard.append(np.zeros((_HOARD, 3)))
        buffer = self.hoard[0]
        assert isinstance(buffer, np.ndarray)  # noqa: S101
        buffer[: len(found.forces)] = found.forces
        return replace(found, forces=buffer[: len(found.forces)])

    def hoarding(self, _: StructureBatch, found: Predictions, __: frozenset[Property]) -> Predictions:
        """Keep 16 KiB of every call."""
        self.hoard.append(np.ones(_HOARD, dtype=np.uint8))
        return found

    def remembering(self, batch: StructureBatch, found: Predictions, _: frozenset[Property]) -> Predictions:
        """Keep the structures and results of every call, less than 1 KiB of a small one."""
        self.hoard.append((batch, found))
        return found

    def waiting(self, _: StructureBatch, found: Predictions, __: frozenset[Property]) -> Predictions:
        """Start a thread that waits for something which never comes; `stop` ends it."""
        threading.Thread(target=self.stop.wait, args=(60.0,), daemon=True).start()
        return found


def _double_precision(_: StructureBatch, found: Predictions, __: frozenset[Property]) -> Predictions:
    torch = importlib.import_module("torch")
    torch.set_default_dtype(torch.float64)
    return found


def _more_threads(_: StructureBatch, found: Predictions, __: frozenset[Property]) -> Predictions:
    torch = importlib.import_module("torch")
    torch.set_num_threads(torch.get_num_threads() + 1)
    return found


_KCAL, _KJ, _HARTREE = ENERGY["kcal/mol"], ENERGY["kJ/mol"], ENERGY["Ha"]
_BOHR, _GPA, _KBAR = LENGTH["bohr"], STRESS["GPa"], STRESS["kbar"]
_BACK: Final = [0, 1, 2, 5, 4, 3]  # xx yy zz xy xz yz

LIES: Final[Mapping[str, Lie]] = MappingProxyType(
    {
        # units, signs and scales
        "forces in kcal/mol/A": Lie("force_units", "kcal/mol", lies.scaled(forces=1 / _KCAL)),
        "energy in kcal/mol": Lie("force_units", "the energy is in kcal/mol", lies.scaled(1 / _KCAL)),
        "energy in kJ/mol": Lie("force_units", "the energy is in kJ/mol", lies.scaled(1 / _KJ)),
        "energy in Hartree": Lie("force_units", "the energy is in Ha", lies.scaled(1 / _HARTREE)),
        "forces in Hartree/Bohr": Lie("force_units", "Ha/Bohr", lies.scaled(forces=_BOHR / _HARTREE)),
        "forces in eV/Bohr": Lie("force_units", "eV/Bohr", lies.scaled(forces=_BOHR)),
        "positions in Bohr": Lie("force_units", "Bohr", see=lies.in_bohr),
        "sign of forces": Lie("force_units", "sign", lies.scaled(forces=-1)),
        "gradient in kcal/mol/A": Lie("force_units", "wrong sign", lies.scaled(forces=-1 / _KCAL)),
        "forces twice": Lie("force_units", "twice", lies.scaled(forces=2)),
        "forces 2 % too large": Lie("force_units", "1.02 times", lies.scaled(forces=1.02)),
        "no forces": Lie("force_units", "zero", lies.scaled(forces=0)),
        "energy per atom": Lie("force_units", "per atom", lies.of_energy(lambda b, e: e / np.maximum(b.counts, 1))),
        "all per atom": Lie("energy_extent", "per atom", lies.per_atom),
        "stress in GPa": Lie("stress_units", "in GPa", lies.scaled(stress=1 / _GPA)),
        "stress in kbar": Lie("stress_units", "in kbar", lies.scaled(stress=1 / _KBAR)),
        "sign of stress": Lie("stress_units", "sign", lies.scaled(stress=-1)),
        "virial": Lie("stress_units", "volume", lies.of_stress(lambda b, s: s * lies.volume(b))),
        "order xy xz yz": Lie("stress_components", "xx yy zz xy xz yz", lies.of_stress(lambda _, s: s[:, _BACK])),
        "shear twice": Lie("stress_components", "twice", lies.of_stress(lambda _, s: s * [1, 1, 1, 2, 2, 2])),
        "reference twice": Lie("energy_reference", "twice", lies.of_energy(lambda b, e: e + lies.references(b))),
        "reference missing": Lie("energy_reference", "missing", lies.of_energy(lambda b, e: e - lies.references(b))),
        # which atoms and which gradient
        "direct forces": Lie("force_gradient", "declare `forces: direct`", lies.of_forces(lies.swirled)),
        "rolled atoms": Lie("force_gradient", "another order than the atoms", lies.of_forces(lies.rolled)),
        "sorted atoms": Lie("permutation", "order of the atoms", lies.of_forces(lies.by_element)),
        "masked atom": Lie("force_gradient", "atoms are zero", lies.of_forces(lies.without_first)),
        "mixed axes": Lie("force_gradient", "mixed up", lies.of_forces(lambda _, f: f[:, [0, 2, 1]])),
        "constraints applied": Lie("fixed_atoms", "marked as fixed", lies.of_forces(lies.held)),
        # symmetry and cells
        "external field": Lie("translation", "shift of all atoms", lies.of_energy(lies.field)),
        "anisotropic": Lie("rotation", "rotated molecule", lies.anisotropic),
        "chiral": Lie("reflection", "mirror image", lies.of_energy(lies.chiral)),
        "signed volume": Lie("left_handed_cell", "left-handed", lies.of_stress(lies.handed)),
        "transposed cell": Lie("rotated_cell", "rotated with its cell", see=lies.transposed),
        "unwrapped positions": Lie("lattice_shifts", "moved by lattice vectors", see=lies.clamped),
        "next cells only": Lie("cell_choice", "lattice vectors of the same lattice", link=lies.next_cells_only),
        "no images": Lie("wrapping", "wrapped", see=lies.nowhere),
        "images everywhere": Lie("partial_pbc", "without periodicity", see=lies.everywhere),
        "images of molecules": Lie("cell_of_molecule", "molecule", see=lies.everywhere),
        "dropped self-images": Lie("tiny_cell", "its own images", link=lies.others_only),
        "nearest images only": Lie("tiny_cell", "than its supercell", link=lies.nearest_only),
        # batches and calls
        "batch backwards": Lie("structure_order", "order 2, 1, 0", lies.backwards),
        "batch leak": Lie("batch_mates", "what else is in its batch", lies.of_energy(lies.leaking)),
        "share of the batch": Lie("batch_single", "alone and in a batch", lies.of_energy(lies.share_of_batch)),
        "cached result": Lie("stale_cache", "numbers of the one before", remember=lambda: Memory().cached),
        "reused buffer": Lie("kept_results", "earlier one had returned", remember=lambda: Memory().reused),
        "wrapped in place": Lie("unchanged_input", "'positions'", see=lies.wrapping_in_place),
        "dropout": Lie("determinism", "do not give one result", lies.of_energy(lies.noisy)),
        "free energy": Lie("property_sets", "other properties", lies.free_energy),
        # forms and edges
        "no stress": Lie("output", "stress is missing", lambda _, found, __: replace(found, stress=None)),
        "float32 arrays": Lie("output", "dtype float32", lies.of_forces(lambda _, f: f.astype(np.float32))),
        "undeclared refusal": Lie("output", "declines what its card declares", lies.declining),
        "empty batch raises": Lie("empty_batch", "ValueError", see=lies.strict),
        "empty structure raises": Lie("empty_structure", "whole batch", see=lies.filled),
        "lonely atom": Lie("single_atom", "no finite energy", lies.of_energy(lies.lonely_nan)),
        "clipped elements": Lie("foreign_elements", "atomic number 118", see=lies.known),
        "float16 overflow": Lie("close_atoms", "half precision", lies.of_forces(lies.in_lower("float16"))),
        "float32 inside": Lie("precision", "float32 numbers", lies.of_forces(lies.in_lower("float32"))),
        # what stays behind
        "slow leak": Lie("memory_growth", "grows with every call", remember=lambda: Memory().hoarding),
        "kept results": Lie("memory_growth", "grows with every call", remember=lambda: Memory().remembering),
        "waiting threads": Lie("threads", "threads behind", remember=lambda: Memory().waiting),
        "default dtype": Lie("default_dtype", "float64", _double_precision),
        "threads of torch": Lie("threads", "torch has", _more_threads),
    }
)
"""All lies by name."""
