"""Named energy corrections that a suite may ask to be added to the labels."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.errors import DatasetError, PrerequisiteError
from mlipbench.suite.schema import Correction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.structures.columnar import Split
    from mlipbench.typing import FloatArray

_CHUNK: Final = 1000


def label_correction(names: Sequence[str], split: Split, size: int) -> FloatArray | None:
    """Return what the named corrections add to the energy of each structure.

    Args:
        names: Values of `Correction`.
        split: The structures.
        size: Only the first `size` of them are looked at.

    Returns:
        Shape (size,), eV; None where nothing is named.

    Raises:
        PrerequisiteError: pymatgen, which defines the correction, is not installed.
        DatasetError: A structure is one the correction does not define.
    """
    if not names:
        return None
    total = np.zeros(size)
    for name in names:
        if Correction(name) is Correction.MP2020:
            total += mp2020_correction(split, size)
    return total


def mp2020_correction(split: Split, size: int) -> FloatArray:
    """Return the Materials Project's 2020 correction, by pymatgen's own code.

    PBE+U is taken to be what MP uses: oxides and fluorides of the metals that its relaxation set gives a U
    (Wang et al., Sci. Rep. 11, 15496 (2021)).

    Args:
        split: Periodic structures with uncorrected PBE/PBE+U energies.
        size: Only the first `size` of them are looked at.

    Returns:
        Shape (size,), eV.

    Raises:
        PrerequisiteError: pymatgen is not installed.
        DatasetError: The scheme does not cover a structure.
    """
    try:
        from pymatgen.entries.compatibility import CompatibilityError, MaterialsProject2020Compatibility
        from pymatgen.io.ase import AseAtomsAdaptor
    except ImportError:
        raise PrerequisiteError(
            "the mp2020 correction needs pymatgen", remedy='run: pip install "mlipbench[corrections]"'
        ) from None
    scheme = MaterialsProject2020Compatibility(check_potcar=False)
    result = np.zeros(size)
    for start in range(0, size, _CHUNK):
        batch = split.structures(start, min(start + _CHUNK, size))
        for i, atoms in enumerate(batch.to_atoms(), start):
            try:
                with warnings.catch_warnings(action="ignore"):  # of guesses that do not enter the correction
                    entry = _entry(AseAtomsAdaptor.get_structure(atoms), float(split.energies(i, i + 1)[0]))
                    result[i] = sum(adjustment.value for adjustment in scheme.get_adjustments(entry))
            except CompatibilityError as error:
                raise DatasetError(
                    f"the mp2020 correction does not cover this structure: {error}",
                    where=f"{split.entry}/{split.name} structure {i}",
                    remedy="leave the structure out, or declare a shift in place of the correction",
                ) from None
    return result


def _entry(structure: Any, energy: float) -> Any:
    """Return a pymatgen entry with the run type that MP would have used."""
    from pymatgen.entries.computed_entries import ComputedStructureEntry
    from pymatgen.io.vasp.sets import MPRelaxSet

    symbols = {element.symbol for element in structure.composition.elements}
    anion = max(structure.composition.elements, key=lambda element: element.X).symbol
    table = MPRelaxSet.CONFIG["INCAR"]["LDAUU"].get(anion, {})
    hubbards = {symbol: table[symbol] for symbol in symbols if symbol in table}
    parameters = {"run_type": "GGA+U" if hubbards else "GGA", "hubbards": hubbards}
    return ComputedStructureEntry(structure, energy, parameters=parameters)
