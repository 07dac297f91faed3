"""A working place with families, packages, a pip configuration and a user's configuration of its own."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING
from unittest import mock

import yaml
from integration_helpers import Workspace

from mlipbench.cli.app import main
from mlipbench.environments import families, uv

if TYPE_CHECKING:
    from pathlib import Path

# The command line with other requirement files than those that ship.
DRIVER = """
import os
from pathlib import Path
from mlipbench.environments import families
families.FOLDER = Path(os.environ["TEST_FAMILIES"])
from mlipbench.cli.app import main
raise SystemExit(main())
"""
STAND_IN = """#!{python}
import os, sys
words = sys.argv[1:]
if "--torch-backend" in words:
    at = words.index("--torch-backend")
    assert words[at + 1] == "cpu"
    words[at : at + 2] = ["--find-links", {folder!r}]
import uv
os.execv(uv.find_uv_bin(), ["uv", *words])
"""


class Place(Workspace):
    """A workspace whose environments are built from packages in a folder, without a network."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cache = root / "cache"
        self.wheels = root / "wheels"
        self.families = root / "families"
        self.configuration = root / "config" / "mlipbench" / "config.yaml"
        self.begun, self.leave = root / "begun", root / "leave"
        self.started: list[subprocess.Popen[str]] = []
        self.driver = root / "driver.py"
        self.driver.write_text(DRIVER)
        for folder in (self.wheels, self.families):
            folder.mkdir()
        self.env = {name: value for name, value in self.env.items() if not name.startswith(("PIP_", "UV_"))}
        self.env |= {
            "XDG_CONFIG_HOME": str(root / "config"),
            "PIP_CONFIG_FILE": str(root / "pip.conf"),
            "UV_CACHE_DIR": str(root / "uv"),
            "NO_PROXY": "127.0.0.1",
            "TEST_FAMILIES": str(self.families),
            "TEST_BEGUN": str(self.begun),
            "TEST_LEAVE": str(self.leave),
        }
        self.family("base", "numpy>=1")
        self.pip(f"no-index = true\nfind-links = {self.wheels}\n")

    def command(self, *arguments: str | Path) -> list[str]:
        return [self.python, "-P", str(self.driver), *map(str, arguments)]

    def cli(self, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, which takes a tenth of the time; see `Workspace.cli`."""
        out, err = io.StringIO(), io.StringIO()
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, {**self.env, **env}, clear=True))
            stack.enter_context(mock.patch.object(families, "FOLDER", self.families))
            if "TEST_UV" in self.env:
                stack.enter_context(mock.patch.object(uv, "_binary", return_value=self.env["TEST_UV"]))
            stack.enter_context(chdir(self.root))
            stack.enter_context(redirect_stdout(out))
            stack.enter_context(redirect_stderr(err))
            code = main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess([], code, out.getvalue(), err.getvalue())

    def start(self, *arguments: str | Path, **env: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own; see `Workspace.start`."""
        self.started.append(super().start(*arguments, **env))
        return self.started[-1]

    def close(self) -> None:
        """End what was started and still runs."""
        self.leave.touch()
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def family(
        self, name: str, *lines: str, overrides: list[str] | None = None, cpu_overrides: list[str] | None = None
    ):
        """Write the requirement files of a family."""
        for suffix, content in (("", lines), (".overrides", overrides), (".cpu-overrides", cpu_overrides)):
            if content is not None:
                (self.families / f"{name}{suffix}.txt").write_text("".join(f"{line}\n" for line in content))

    def pip(self, text: str) -> None:
        """Write pip's configuration."""
        (self.root / "pip.conf").write_text(f"[global]\n{text}")

    def configure(self, **content: object) -> None:
        """Write the user's configuration."""
        self.configuration.parent.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(yaml.safe_dump(content))

    def stand_in_for_uv(self, folder: Path) -> None:
        """Let a program take uv's place that finds the CPU builds of PyTorch in a folder."""
        program = self.root / "uv-stand-in"
        program.write_text(STAND_IN.format(python=sys.executable, folder=str(folder)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.env["TEST_UV"] = str(program)

    def wait_for_begun(self, count: int) -> list[int]:
        """Wait until the slow package is being built, and return the ids of the processes that do it."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            begun = self.begun.read_text().split() if self.begun.exists() else []
            if len(begun) >= count:
                return [int(one) for one in begun]
            time.sleep(0.02)
        raise AssertionError(f"no build began below {os.fspath(self.root)}")
