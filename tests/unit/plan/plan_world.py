"""Small datasets on disk, and suites and cards that use them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlipbench.datasets.prepare import DataLocation
from mlipbench.datasets.readers import read
from mlipbench.datasets.records import Reading
from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.plan import Plan, Selection, build_plan
from mlipbench.suite import load_suite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlipbench.datasets.children import Job
    from mlipbench.plan.training import PlannedTraining

ENTRY: dict[str, Any] = {
    "name": "toy",
    "title": "Toy",
    "licence": "CC0",
    "citation": "none",
    "level_of_theory": "PBE/PBE+U",
    "energy_reference": "total",
    "units": {"energy": "eV", "forces": "eV/A", "length": "A"},
    "keys": {"energy": "energy", "forces": "forces"},
    "pbc": "file",
    "cluster": "structure",
    "root": "data",
    "splits": {"train": {"files": ["train.xyz"]}, "val": {"files": ["val.xyz"]}, "refs": {"files": ["refs.xyz"]}},
    "fit_split": "train",
}
SUITE: dict[str, Any] = {
    "suite": "mine",
    "version": 1,
    "models": ["lj"],
    "datasets": {"toy": {"splits": ["val"], "entry": "toy.yaml"}},
    "tasks": {"s2ef": {}},
}
CARD: dict[str, Any] = {
    "name": "card",
    "adapter": "lj",
    "environment": "base",
    "capabilities": {
        "forces": "conservative",
        "elements": "1-89",
        "energy_reference": "total",
        "level_of_theory": "PBE/PBE+U",
    },
    "batch": {"atoms": 10},
}
RECIPE: dict[str, Any] = {
    "recipe": "mine",
    "version": 1,
    "preset": "small",
    "train": {"split": "train", "slice": [0, 4, None]},
    "validation": {"split": "train", "slice": [4, None, None]},
    "energy_reference": "mean",
    "loss": {"energy": 1.0, "forces": 50.0},
    "learning_rates": [1e-3, 5e-4],
    "schedule": {"kind": "cosine"},
    "batch": 2,
    "steps": 100,
    "evaluate_every": 10,
}


class World:
    """A folder with data, an entry, a suite and a card; every part can be changed before `plan`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entry = json.loads(json.dumps(ENTRY))
        self.suite = json.loads(json.dumps(SUITE))
        self.card = json.loads(json.dumps(CARD))
        for name, count in (("train", 6), ("val", 5), ("refs", 2)):
            self.write(name, crystals(count, seed=len(name)))

    @property
    def location(self) -> DataLocation:
        return DataLocation(self.folder / "data", self.folder / "cache")

    @property
    def card_path(self) -> str:
        return str(self.folder / "cards" / f"{self.card['name']}.yaml")

    def write(self, split: str, frames: list[Atoms]) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        write(self.folder / "data" / f"{split}.xyz", frames, format="extxyz")

    def plan(self, **selection: Any) -> Plan:
        (self.folder / "cards").mkdir(exist_ok=True)
        for name, content in (("toy.yaml", self.entry), ("suite.yaml", self.suite)):
            (self.folder / name).write_text(yaml.safe_dump(content))
        (self.folder / "cards" / f"{self.card['name']}.yaml").write_text(yaml.safe_dump(self.card))
        fields: dict[str, Any] = {"threads": 1, "trust": True}
        return build_plan(load_suite(str(self.folder / "suite.yaml")), Selection(**fields | selection), self.location)

    def use_card(self) -> None:
        """Let the suite run the card of this folder."""
        self.suite["models"] = [self.card_path]


def planned(world: World, model: str = "leignn", **changes: Any) -> PlannedTraining:
    (world.folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **changes}))
    world.suite["models"] = [{"name": model, "recipe": "recipe.yaml"}]
    run = world.plan().runs[0]
    assert run.checkpoints == {"toy": None}
    return run.trainings["toy"]


def crystals(count: int, *, seed: int, symbols: str = "MgO", pbc: bool = True, forces: bool = True) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = Atoms(symbols, positions=rng.random((len(Atoms(symbols)), 3)) * 3, cell=[4, 4, 4], pbc=pbc)
        values: dict[str, Any] = {"energy": float(rng.normal())}
        if forces:
            values["forces"] = rng.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, **values)
        frames.append(atoms)
    return frames


def convert_here(jobs: Sequence[Job], *_: Any) -> None:
    """Convert files without a child process."""
    for job in jobs:
        with ColumnarWriter(job.output) as writer:
            for chunk in read(job.file, Reading.from_json(job.reading), job.label):
                writer.append(chunk.structures, chunk.labels, chunk.clusters)
