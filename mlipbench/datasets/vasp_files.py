"""Reader of VASP's ``vasprun.xml``, one ionic step at a time: such files may be larger than memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET
from xml.parsers import expat

import numpy as np

from mlipbench.datasets.records import Frame
from mlipbench.elements import SYMBOLS
from mlipbench.errors import DatasetError
from mlipbench.units import stress_factor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlipbench.datasets.records import Reading
    from mlipbench.typing import AnyArray, FloatArray


class _FirstElementError(Exception):
    """The first element begins."""


def read_vasprun(path: Path, reading: Reading) -> Iterator[Frame]:
    """Read the ionic steps of ``vasprun.xml``, with ``energy``, ``free_energy`` and ``forces``.

    ``free_energy`` is VASP's TOTEN, whose derivatives the forces are, and ``energy`` that extrapolated to zero
    smearing; both as ASE's reader has them, which says why: VASP's own extrapolated value lacks corrections, and what
    it calls free energy includes pressure times volume.

    Raises:
        DatasetError: The file is cut short or no ``vasprun.xml``, or an ionic step lacks a value.
    """
    del reading
    _refuse_doctype(path)
    numbers: AnyArray | None = None
    pressure, index = 0.0, 0
    with path.open("rb") as file:
        events = ET.iterparse(file, events=("start", "end"))  # noqa: S314 - there are no declarations
        _, root = next(events)
        if root.tag != "modeling":
            raise DatasetError("not VASP's vasprun.xml", remedy="get the file again")
        for event, element in events:
            if event == "start":
                continue
            if element.tag == "atominfo":
                numbers = _numbers(element)
            elif element.tag == "parameters":
                pressure = _pressure(element)
            elif element.tag == "calculation":
                yield _step(f"frame {index}", element, numbers, pressure)
                index += 1
                root.clear()


def _refuse_doctype(path: Path) -> None:
    """Refuse declarations, which could make a short file long; VASP writes none.

    Raises:
        DatasetError: There is one before the first element.
    """

    def refuse(*_: Any) -> None:
        raise DatasetError("has a document type declaration, which VASP does not write", remedy="get the file again")

    def begin(*_: Any) -> None:
        raise _FirstElementError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    with path.open("rb") as file:
        try:
            parser.ParseFile(file)
        except _FirstElementError:
            return


def _numbers(info: ET.Element) -> AnyArray:
    symbols = [(entry.text or "").strip() for entry in info.findall("array[@name='atoms']/set/rc/c[1]")]
    for symbol in symbols:
        if symbol not in SYMBOLS[1:]:
            raise DatasetError(f"{symbol[:20]!r} is not a chemical symbol", where="atominfo")
    return np.array([SYMBOLS.index(symbol) for symbol in symbols])


def _pressure(parameters: ET.Element) -> float:
    """Return the external pressure in eV/Å³."""
    found = parameters.find(".//i[@name='PSTRESS']")
    return 0.0 if found is None else _number("parameters", found, "PSTRESS") * stress_factor("kbar")


def _step(where: str, step: ET.Element, numbers: AnyArray | None, pressure: float) -> Frame:
    if numbers is None:
        raise DatasetError("no atominfo before this ionic step", where=where, remedy="get the file again")
    cell = _vectors(where, step, "structure/crystal/varray[@name='basis']")
    scaled = _vectors(where, step, "structure/varray[@name='positions']")
    if cell.shape != (3, 3):
        raise DatasetError("basis does not hold three vectors", where=where)
    enthalpy = _energy(where, step.find("energy"), "e_fr_energy")
    free = enthalpy - pressure * float(np.linalg.det(cell))
    cycles = step.findall("scstep/energy")
    last = cycles[-1] if cycles else None
    smearing = _energy(where, last, "e_0_energy") - _energy(where, last, "e_fr_energy")
    values: dict[str, Any] = {"energy": free + smearing, "free_energy": free}
    if step.find("varray[@name='forces']") is not None:
        values["forces"] = _vectors(where, step, "varray[@name='forces']")
    return Frame(where, numbers, scaled @ cell, cell, np.ones(3, dtype=np.bool_), values)


def _vectors(where: str, step: ET.Element, path: str) -> FloatArray:
    found = step.find(path)
    name = path.rpartition("'")[0].rpartition("'")[2]
    rows = [] if found is None else [(row.text or "").split() for row in found]
    if not rows:
        raise DatasetError(f"no {name}", where=where, remedy="get the file again")
    try:
        vectors = np.array(rows, dtype=np.float64)
    except ValueError:
        vectors = np.zeros(0)
    if vectors.ndim != 2 or vectors.shape[1] != 3:  # noqa: PLR2004
        raise DatasetError(f"{name} does not hold three numbers a line", where=where)
    return vectors


def _energy(where: str, parent: ET.Element | None, name: str) -> float:
    found = None if parent is None else parent.find(f"i[@name='{name}']")
    if found is None:
        raise DatasetError(f"no {name}", where=where, remedy="get the file again")
    return _number(where, found, name)


def _number(where: str, element: ET.Element, name: str) -> float:
    try:
        return float(element.text or "")
    except ValueError:
        shown = (element.text or "").strip()[:20]
        raise DatasetError(f"{name} is {shown!r}, not a number", where=where) from None
