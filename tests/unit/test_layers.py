"""The house rules on imports and sizes, checked on the package and on planted violations."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mlipbench

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(mlipbench.__file__).parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 45

# From the lowest to the highest. A module may import what stands in an earlier row, and its own folder.
SHARED = (
    ("errors", "typing", "elements", "version", "budget", "progress", "status", "cachedir", "machine", "cost"),
    ("units", "yamlfile"),
    ("structures",),
    ("metrics", "protocol", "models.interface", "recipe"),
    ("checkpoint", "conformance", "dynamics", "tasks", "trainers", "trusted"),
)
PARENT = (
    ("suite", "datasets", "models", "environments", "recipes"),
    ("plan",),
    ("store",),
    ("execution",),
    ("scoring",),
    ("runner",),
    ("comparison",),
    ("report", "export"),
    ("gate", "doctor"),
    ("cli", "testing"),
    ("__main__",),
)
WORKER = (("nets", "worker"), ("adapters",), ("training",))
SCRIPTS = "datasets.mini"  # make the shipped data; nothing may depend on them
FOREIGN = frozenset(
    {"torch", "torch_geometric", "chgnet", "deepmd", "mace", "fairchem", "e3nn", "nequip", "sevenn", "orb_models"}
)


@dataclass(frozen=True)
class Import:
    """One import statement: who imports what (a dotted name below the package, or a foreign one), and where."""

    module: str
    target: str
    line: int
    own: bool


def modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> Iterator[Import]:
    known = modules(root)
    for name, path in known.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(filter(None, (absolute(root.name, package, node.level), node.module)))
                targets = [target(root.name, base, alias.name, known) for alias in node.names]
            else:
                continue
            for full in targets:
                own = full == root.name or full.startswith(f"{root.name}.")
                yield Import(name, full.removeprefix(root.name).removeprefix(".") if own else full, node.lineno, own)


def absolute(root: str, package: str, level: int) -> str:
    if not level:
        return ""
    parts = [root, *filter(None, package.split("."))]
    return ".".join(parts[: len(parts) - level + 1])


def target(root: str, base: str, name: str, known: dict[str, Path]) -> str:
    """Return the module that ``from base import name`` needs: base itself, or the module of that name inside it."""
    inside = f"{base}.{name}".removeprefix(f"{root}.")
    return f"{base}.{name}" if inside in known else base


def place(module: str) -> tuple[str, int, str] | None:
    """Return side, rank and entry of a module in the table; the longest entry that fits counts."""
    if not module:
        return "shared", -1, ""  # the package itself holds the version only
    best: tuple[str, int, str] | None = None
    for side, rows in (("shared", SHARED), ("parent", PARENT), ("worker", WORKER)):
        for rank, row in enumerate(rows):
            for entry in row:
                fits = module == entry or module.startswith(f"{entry}.")
                if fits and (best is None or len(entry) > len(best[2])):
                    best = side, rank, entry
    return best


def may_import(module: str, imported: str) -> bool:
    here, there = place(module), place(imported)
    if here is None or there is None:
        return False
    if there[0] != here[0]:
        return there[0] == "shared"
    same_folder = module.partition(".")[0] == imported.partition(".")[0] and here[2] == there[2]
    return there[1] < here[1] or same_folder


def layer_faults(root: Path) -> list[str]:
    faults = [f"{name}: is in no layer" for name in modules(root) if place(name) is None]
    for found in imports(root):
        where = f"{found.module}:{found.line}"
        here = place(found.module)
        if found.own:
            if not may_import(found.module, found.target):
                faults.append(f"{where} imports {found.target}")
            if found.target.startswith(SCRIPTS) and not found.module.startswith(SCRIPTS):
                faults.append(f"{where} imports the script {found.target}")
        elif here is not None and here[0] != "worker" and found.target.partition(".")[0] in FOREIGN:
            faults.append(f"{where} imports {found.target}")
    return faults


def size_faults(root: Path) -> list[str]:
    faults = []
    for name, path in modules(root).items():
        text = path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > MAX_FILE_LINES:
            faults.append(f"{name}: {lines} lines")
        functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        faults += [f"{name}.{f.name}: {length(f)} lines" for f in functions if length(f) > MAX_FUNCTION_LINES]
    return faults


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function from its first decorator, without its docstring."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines = (node.end_lineno or first) - first + 1
    if ast.get_docstring(node, clean=False) is not None:
        docstring = node.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def test_package_imports_only_lower_layers_of_its_own_side() -> None:
    assert layer_faults(PACKAGE) == []


def test_files_and_functions_are_short() -> None:
    assert size_faults(PACKAGE) == []


def test_walk_sees_the_whole_package() -> None:
    seen = {found.module for found in imports(PACKAGE)}
    assert {"cli.app", "worker.main", "datasets.mini.slabs.generate", "plan.build", "report.table"} <= seen
    assert len(modules(PACKAGE)) > 100


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "mlipbench"
    files = ("__init__", "errors", "plan/__init__", "plan/build", "store/files", "worker/main", "datasets/mini/make")
    for name in files:
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


def test_checker_accepts_what_is_allowed(tree: Path) -> None:
    (tree / "store/files.py").write_text(
        "import json\nfrom mlipbench.plan.build import x\nfrom mlipbench import errors\n"
    )
    (tree / "plan/build.py").write_text("from mlipbench.plan import y\n")
    (tree / "worker/main.py").write_text("import torch\nfrom mlipbench.errors import E\n")
    assert layer_faults(tree) == []


@pytest.mark.parametrize(
    ("module", "line", "fault"),
    [
        ("plan/build", "from mlipbench.store.files import x", "plan.build:1 imports store.files"),
        ("plan/build", "from mlipbench.store import files", "plan.build:1 imports store.files"),
        ("plan/build", "import mlipbench.store.files", "plan.build:1 imports store.files"),
        ("plan/build", "from ..store import files", "plan.build:1 imports store.files"),
        ("plan/build", "from ..store.files import x", "plan.build:1 imports store.files"),
        ("plan/__init__", "from ..store.files import x", "plan:1 imports store.files"),
        ("plan/build", "def f():\n    from mlipbench.store.files import x", "plan.build:2 imports store.files"),
        (
            "plan/build",
            "if TYPE_CHECKING:\n    from mlipbench.store.files import x",
            "plan.build:2 imports store.files",
        ),
        ("errors", "from mlipbench.plan import x", "errors:1 imports plan"),
        ("plan/build", "from mlipbench.worker import main", "plan.build:1 imports worker.main"),
        ("worker/main", "from mlipbench.plan import x", "worker.main:1 imports plan"),
        ("plan/build", "import torch.nn", "plan.build:1 imports torch.nn"),
        ("errors", "from chgnet.model import CHGNet", "errors:1 imports chgnet.model"),
        ("store/files", "import mlipbench.datasets.mini.make", "store.files:1 imports the script datasets.mini.make"),
        ("novel", "", "novel: is in no layer"),
    ],
)
def test_checker_finds_a_planted_violation(tree: Path, module: str, line: str, fault: str) -> None:
    (tree / f"{module}.py").write_text(line)
    assert layer_faults(tree) == [fault]


def test_same_layer_is_closed_to_other_folders(tree: Path) -> None:
    (tree / "suite").mkdir()
    (tree / "suite/a.py").write_text("from mlipbench.datasets import b\n")
    (tree / "datasets/b.py").write_text("")
    assert layer_faults(tree) == ["suite.a:1 imports datasets.b"]


def test_size_checker_counts_without_the_docstring(tree: Path) -> None:
    body = "    x = 1\n" * (MAX_FUNCTION_LINES - 1)
    documented = 'def f():\n    """One.\n\n    Two.\n    """\n'
    (tree / "errors.py").write_text(documented + body)
    assert size_faults(tree) == []
    (tree / "errors.py").write_text(documented + body + "    x = 2\n")
    assert size_faults(tree) == ["errors.f: 46 lines"]


def test_size_checker_finds_a_long_file(tree: Path) -> None:
    (tree / "errors.py").write_text("x = 1\n" * MAX_FILE_LINES)
    assert size_faults(tree) == []
    (tree / "errors.py").write_text("x = 1\n" * (MAX_FILE_LINES + 1))
    assert size_faults(tree) == ["errors: 401 lines"]
