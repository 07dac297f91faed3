from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mlipbench import __version__
from mlipbench.cli import listing, schema
from mlipbench.cli.app import main
from mlipbench.errors import ExitCode, PrerequisiteError

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = ("torch", "pandas", "ase.io", "ase", "pyarrow", "scipy", "numpy", "rich")
"""Typer itself loads pydantic to check options."""


@pytest.mark.parametrize(
    "line",
    [
        ["--help"],
        ["run", "--help"],
        ["compare", "--help"],
        ["gate", "--help"],
        ["list", "models"],
        ["list", "suites"],
        ["list", "datasets"],
    ],
)
def test_cheap_commands_import_nothing_heavy(line: list[str]) -> None:
    script = (
        "import sys; from mlipbench.cli.app import main\n"
        f"code = main({line!r})\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("kind", list(listing.Kind))
def test_lists(kind: listing.Kind, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind.value, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["list", kind.value]) == 0
    text = capsys.readouterr().out
    assert rows
    assert all(row["name"] in text for row in rows)


@pytest.mark.parametrize("kind", list(schema.Kind))
def test_schemas(kind: schema.Kind, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", kind.value]) == 0
    found = json.loads(capsys.readouterr().out)
    parts = [found["$defs"][part["$ref"].rpartition("/")[2]] for part in found.get("anyOf", [])]
    for part in parts or [found]:  # a suite file is of either of two kinds
        assert part["type"] == "object"
        assert part["properties"]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (["run"], "SUITE"),
        (["run", "quickstart", "--limit", "0"], "--limit"),
        (["run", "quickstart", "--limit", "many"], "--limit"),
        (["run", "quickstart", "--display", "loud"], "--display"),
        (["run", "quickstart", "--frobnicate"], "--frobnicate"),
        (["frobnicate"], "frobnicate"),
        (["list", "colours"], "colours"),
        (["list"], "models"),
        (["schema", "poem"], "poem"),
        (["data"], "data --help"),
        (["plan", "quickstrat"], "quickstart"),
        (["run", "nosuchsuite.yaml"], "nosuchsuite.yaml"),
        (["data", "verify", "no-such-dataset"], "no-such-dataset"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(line: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mlipbench: error: ")
    assert err.count("\n") == 1
    assert part in err


def test_a_missing_data_root_ends_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "quickstart", "--data-root", str(tmp_path / "nowhere")]) == ExitCode.MISSING
    assert "nowhere: there is no such directory" in capsys.readouterr().err


def test_an_empty_list_of_models_ends_with_5(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "quickstart", "--models", " , "]) == ExitCode.NOTHING
    assert "--models" in capsys.readouterr().err


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    for part in ("Exit codes", "0 done", "130 interrupted", "run ", "report "):
        assert part in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mlipbench {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("a\nb\x1b[2J"), 3, "mlipbench: error: internal error: RuntimeError: a b[2J; give --debug"),
        (PrerequisiteError("no GPU", remedy="buy one"), 4, "mlipbench: error: no GPU; buy one"),
        (KeyboardInterrupt(), 130, "mlipbench: interrupted; the same command resumes"),
    ],
)
def test_every_end_is_one_line_with_its_code(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(listing._LISTS, listing.Kind.MODELS, (("name",), fail))
    assert main(["list", "models"]) == code
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize("line", [["--debug", "plan", "nosuch"], ["plan", "nosuch", "--debug"]])
def test_debug_prints_the_traceback(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m mlipbench schema manifest | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [("run quick", "quickstart"), ("run x --models emt,l", "emt,lj"), ("data verify mini", "mini")],
)
def test_names_are_completed(words: str, expected: str) -> None:
    count = len(words.split())
    environment = {
        "_MLIPBENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": f"mlipbench {words}",
        "COMP_CWORD": str(count),
    }
    script = "from mlipbench.cli.app import main; raise SystemExit(main())"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert expected in done.stdout, done.stderr


def test_a_plan_imports_no_model_package_and_no_slow_library(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom mlipbench.cli.app import main\n"
        "status = main(['plan', 'quickstart', '--models', 'composition,emt,lj'])\n"
        "slow = {'torch', 'pandas', 'ase', 'ase.io', 'pyarrow', 'scipy', 'rich', 'chgnet'}\n"
        "print('LOADED', status, sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = {**os.environ, "MLIPBENCH_CACHE": str(tmp_path)}
    for _ in range(2):  # the first one converts the data, in a child
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
    assert done.stderr.splitlines()[-1] == "LOADED 0 []"
