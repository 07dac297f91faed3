"""Write the stored frames of ``mini-slabs`` in OC20's layout (extxyz.xz and txt), with references and checksums."""

from __future__ import annotations

import io
import json
import lzma
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from mlipbench.datasets.mini.files import load, write_checksums

from .systems import GAS_RULE, GASES, SPLITS, SUBSURFACE, Geometry, Settings, System, catalogue

if TYPE_CHECKING:
    from pathlib import Path

COMMENT = (
    "E_ads = E(frame) - sum of coefficient * E(reference frame); ids name frames of the references split; "
    "gases as in OC20: H = 1/2 H2, O = H2O - H2, CO = CO, OH = H2O - 1/2 H2"
)


def read_frames(work: Path) -> dict[int, list[dict[str, Any]]]:
    """Stored records by system id, in frame order."""
    found: dict[int, list[dict[str, Any]]] = {}
    for path in sorted((work / "frames").glob("*.json")):
        record = load(path)
        found.setdefault(record["system"]["sid"], []).append(record)
    return found


def to_atoms(record: dict[str, Any], system: System) -> Atoms:
    """One record as an ASE frame; slabs become periodic along z with at least 15 Å of vacuum."""
    settings, geometry = Settings(), Geometry()
    atoms = Atoms(record["symbols"], record["positions"], cell=record["cell"], tags=record["tags"])
    if system.slab not in GASES:
        below = geometry.stored_vacuum / 2 - settings.vacuum_below
        above = geometry.stored_vacuum / 2 + geometry.stored_adsorbate - settings.space_above
        cell = atoms.cell.array.copy()
        cell[2, 2] += below + above
        atoms.set_cell(cell)
        atoms.positions[:, 2] += below
        atoms.pbc = True
        atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == SUBSURFACE))
    atoms.info = {"sid": f"random{system.sid}", "fid": record["fid"], "config": system.config}
    calc = SinglePointCalculator(atoms, energy=record["energy"], forces=record["forces"])
    calc.results["free_energy"] = record["free_energy"]
    atoms.calc = calc
    return atoms


def coefficients(system: System, references: dict[str, System]) -> dict[str, float]:
    """Reference frames of an adsorption energy and their coefficients."""
    gases = {f"random{references[gas].sid}": value for gas, value in GAS_RULE[system.adsorbate].items()}
    return {f"random{references[system.slab].sid}": 1.0} | gases


def write_chunk(folder: Path, number: int, rows: list[tuple[System, dict[str, Any], float]]) -> None:
    """Write ``<number>.extxyz.xz`` and ``<number>.txt`` of one split; line n of the text belongs to frame n."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    for system, record, _ in rows:
        atoms = to_atoms(record, system)
        columns = ["symbols", "positions", "tags", *(["move_mask"] if atoms.constraints else [])]
        write(text, atoms, format="extxyz", columns=columns)
    (folder / f"{number}.extxyz.xz").write_bytes(lzma.compress(text.getvalue().encode(), preset=9))
    lines = [f"random{system.sid},frame{record['fid']},{energy:.8f}\n" for system, record, energy in rows]
    (folder / f"{number}.txt").write_text("".join(lines))


def pack(work: Path, out: Path) -> None:
    """Write all splits, ``references.json`` and ``SHA256SUMS`` from the frames that are there.

    Clean slabs of alloys are a chunk of their own, so that a fit can take the references of the training split alone.
    """
    found = read_frames(work)
    systems = [system for system in catalogue() if system.sid in found]
    references = {system.slab: system for system in systems if system.split == "references"}
    energies = {f"random{system.sid}": found[system.sid][0]["energy"] for system in references.values()}
    rows: dict[str, list[tuple[System, dict[str, Any], float]]] = {split: [] for split in (*SPLITS, "references")}
    table: dict[str, dict[str, float]] = {}
    for system in systems:
        energy = 0.0
        if system.split != "references":
            if system.slab not in references or not set(GAS_RULE[system.adsorbate]) <= set(references):
                continue
            table[f"random{system.sid}"] = coefficients(system, references)
            energy = sum(value * energies[name] for name, value in table[f"random{system.sid}"].items())
        rows[system.split] += [(system, record, energy) for record in found[system.sid]]
    for split, members in rows.items():
        for number in sorted({system.chunk for system, _, _ in members}):
            write_chunk(out / split, number, [row for row in members if row[0].chunk == number])
    (out / "references.json").write_text(json.dumps({"comment": COMMENT, "systems": table}, indent=1) + "\n")
    write_checksums(out, sorted([*out.glob("*/*.extxyz.xz"), *out.glob("*/*.txt"), out / "references.json"]))
