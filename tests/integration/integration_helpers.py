"""A working place with a small dataset, and the command line in processes of its own."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

CHECKOUT = Path(__file__).parents[2]
PLUGIN = CHECKOUT / "tests" / "plugin_package"
EXAMPLE = CHECKOUT / "examples" / "mlipbench-sevennet"
TOYS = "mlipbench.testing.toys"
BOX = 12.0  # Å
ODD = "Xe"  # the element that makes a liar lie


@dataclass
class Frame:
    """One labelled structure."""

    symbols: list[str]
    positions: np.ndarray
    energy: float
    forces: np.ndarray
    movable: np.ndarray | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the frame as extended XYZ with all digits."""
        box = " ".join(str(value) for value in (np.eye(3) * BOX).ravel())
        mask = "" if self.movable is None else ":move_mask:L:1"
        info = "".join(f" {key}={value}" for key, value in self.info.items())
        comment = f'Lattice="{box}" Properties=species:S:1:pos:R:3:forces:R:3{mask} energy={self.energy!r}{info}'
        rows = []
        for atom, symbol in enumerate(self.symbols):
            numbers = [*self.positions[atom].tolist(), *self.forces[atom].tolist()]
            free = [] if self.movable is None else ["T" if self.movable[atom] else "F"]
            rows.append(" ".join([symbol, *map(repr, numbers), *free]))
        return "\n".join([str(len(rows)), f'{comment} pbc="T T T"', *rows]) + "\n"


def make_frames(n: int, *, seed: int, elements: tuple[str, ...] = ("Cu", "O", "H"), odd: tuple[int, ...] = ()) -> list:
    """Return structures of 3 to 7 atoms at least 2 Å apart; those in `odd` hold one atom of the odd element."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3) * 3.0 + 1.0] * 3), axis=-1).reshape(-1, 3)
    found = []
    for number in range(n):
        size = int(rng.integers(3, 8))
        symbols = [str(symbol) for symbol in rng.choice(elements, size)]
        if number in odd:
            symbols[0] = ODD
        positions = grid[rng.choice(len(grid), size, replace=False)] + rng.uniform(-0.5, 0.5, (size, 3))
        energy = float(sum({"Cu": -3.0, "O": -5.0, "H": -1.0}.get(symbol, 0.0) for symbol in symbols))
        frame = Frame(symbols, positions, energy + float(rng.normal(0, 0.3)), rng.normal(0, 1, (size, 3)))
        frame.info["sid"] = f"s{number // 2}"
        found.append(frame)
    return found


class Workspace:
    """A folder with data, cards and suites, and the command line running in it.

    Args:
        root: The folder.
        python: The interpreter with mlipbench.
    """

    def __init__(self, root: Path, python: Path | str = sys.executable) -> None:
        self.root = root
        self.python = str(python)
        self.patience = 240.0  # s, for one command
        self.data = root / "data"
        self.results = root / "results"
        self.data.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLIPBENCH_", "CI"))}
        self.env = {
            **kept,
            "OMP_NUM_THREADS": "1",
            "MLIPBENCH_CACHE": str(root / "cache"),
            "XDG_CONFIG_HOME": str(root / "config"),
            "MLIPBENCH_DATA": str(self.data),
            "COLUMNS": "200",
        }

    def write_frames(self, name: str, frames: list[Frame]) -> Path:
        path = self.data / f"{name}.extxyz"
        path.write_text("".join(frame.text() for frame in frames), encoding="utf-8")
        return path

    def entry(self, **changes: Any) -> Path:
        """Write the entry of the dataset, some of its fields replaced."""
        content = {
            "name": "toy",
            "title": "Toy structures",
            "licence": "CC0",
            "citation": "none",
            "level_of_theory": "toy",
            "energy_reference": "total",
            "units": {"energy": "eV", "forces": "eV/A", "length": "A"},
            "keys": {"energy": "energy", "forces": "forces", "cluster": "sid"},
            "pbc": "file",
            "cluster": "key",
            "root": "data",
            "splits": {name: {"files": [f"{name}.extxyz"]} for name in ("train", "test")},
            "fit_split": "train",
        }
        return self._yaml("toy.yaml", content | changes)

    def card(self, name: str, adapter: str, **changes: Any) -> str:
        """Write a card of an adapter (a toy, where only its class is named) and return its path."""
        capabilities = {
            "forces": "conservative",
            "elements": "1-94",
            "energy_reference": "total",
            "level_of_theory": "springs",
        }
        content = {
            "name": name,
            "adapter": adapter if ":" in adapter or adapter.islower() else f"{TOYS}:{adapter}",
            "environment": "base",
            "kwargs": {},
            "capabilities": capabilities | changes.pop("capabilities", {}),
            "batch": {"structures": 5},
        }
        return str(self._yaml(f"{name}.yaml", content | changes))

    def suite(self, models: list[Any], *, name: str = "toys", **changes: Any) -> str:
        """Write a suite over the split `test` and return its path."""
        dataset = {"splits": ["test"], "entry": "toy.yaml"} | changes.pop("dataset", {})
        content = {"suite": name, "version": 1, "models": models, "datasets": {"toy": dataset}, "tasks": {"s2ef": {}}}
        return str(self._yaml(f"suite-{name}.yaml", content | changes))

    def command(self, *arguments: str | Path) -> list[str]:
        return [self.python, "-P", "-m", "mlipbench", *map(str, arguments)]

    def cli(self, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command and return what became of it."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=self.patience,
        )

    def ok(self, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command that must succeed."""
        done = self.cli(*arguments, **env)
        assert done.returncode == 0, done.stderr
        return done

    def start(self, *arguments: str | Path, **env: str) -> subprocess.Popen[str]:
        """Start a command as the leader of a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def runs(self, suite: str = "toys", results: Path | None = None) -> dict[str, Path]:
        """Return the directory of the only run of each model."""
        found = {}
        for path in sorted(((results or self.results) / "runs" / suite).glob("*/*/manifest.json")):
            model = path.parent.parent.name
            assert model not in found, f"{model} was run more than once"
            found[model] = path.parent
        return found

    def _yaml(self, name: str, content: dict[str, Any]) -> Path:
        path = self.root / name
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path


def fingerprints(run: Path, *patterns: str) -> dict[str, str]:
    """Return the SHA-256 of what a run must reproduce: predictions, scores, metrics, fits and conversions."""
    wanted = patterns or ("predictions/**/*", "scores/**/*", "metrics.json", "fitted/*", "conversions/*")
    files = sorted(path for pattern in wanted for path in run.glob(pattern) if path.is_file())
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def predictions(run: Path, split: str = "test") -> dict[str, list[Any]]:
    """Return the columns of the predictions of a split."""
    columns: dict[str, list[Any]] = pq.read_table(run / f"predictions/s2ef/toy/{split}.parquet").to_pydict()
    return columns


def ledger_batches(path: Path) -> int:
    """Count the intact frames of a ledger by its documented layout, without the code under test."""
    content, position, count = path.read_bytes(), 0, 0
    while position + 16 <= len(content):
        magic, checksum, length = struct.unpack_from("<4sIQ", content, position)
        payload = content[position + 16 : position + 16 + length]
        if magic != b"MLED" or len(payload) < length or zlib.crc32(payload) != checksum:
            break
        position += 16 + length
        count += 1
    return count


def one_error(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that a command ended with one line and nothing else, and return the line."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("mlipbench: error: ")
    assert "Traceback" not in lines[0]
    assert "internal error" not in lines[0]
    return lines[0]


def plugin_python(folder: Path, plugin: Path = PLUGIN) -> Path:
    """Return an interpreter that sees what this one sees, and a plugin package as installed."""
    venv.create(folder, with_pip=False, symlinks=True)
    places = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=places))
    seen = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    lines = [f"import site; site.addsitedir({place!r})" for place in dict.fromkeys(seen)]
    (site / "seen.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    install_plugin(site, plugin=plugin)
    return folder / "bin" / "python"


def install_plugin(site: Path, name: str | None = None, plugin: Path = PLUGIN) -> None:
    """Install a plugin package, or the same under another name of the distribution and the entry point."""
    project = tomllib.loads((plugin / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    distribution, folder = name or project["name"], project["name"].replace("-", "_")
    package = distribution.replace("-", "_")
    for source in sorted((plugin / folder).rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            target = site / package / source.relative_to(plugin / folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    info = site / f"{package}-{project['version']}.dist-info"
    info.mkdir()
    version = project["version"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", "utf-8")
    points = project["entry-points"]["mlipbench.models"]
    lines = [f"{key} = {value.replace(folder, package)}" for key, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[mlipbench.models]", *lines]) + "\n", "utf-8")
