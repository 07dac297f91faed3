import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlipbench
from mlipbench.version import code_version


def version_of(folder):
    command = [sys.executable, "-S", "-c", "from mlipbench.version import code_version; print(code_version())"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_it_holds_the_release_and_a_hash():
    assert re.fullmatch(re.escape(mlipbench.__version__) + r"\+[0-9a-f]{12}", code_version())


def test_it_changes_with_any_source_and_with_nothing_else(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__", "mini")
    shutil.copytree(Path(mlipbench.__file__).parent, tmp_path / "mlipbench", ignore=ignore)
    first = version_of(tmp_path)
    (tmp_path / "mlipbench/notes.txt").write_text("not code")
    assert version_of(tmp_path) == first
    with (tmp_path / "mlipbench/units.py").open("a") as file:
        file.write("\n")
    second = version_of(tmp_path)
    assert second != first
    (tmp_path / "mlipbench/models/extra.yaml").write_text("a: 1\n")
    third = version_of(tmp_path)
    assert third not in {first, second}
