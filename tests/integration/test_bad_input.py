"""What is wrong with an input is said in one line, with the right exit code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from integration_helpers import make_frames, one_error

BOMB = "a: &a [x, x, x]\n" + "\n".join(
    f"{after}: &{after} [*{before}, *{before}, *{before}]"
    for before, after in zip("abcdefghi", "bcdefghij", strict=True)
)
HEAD = "suite: toys\nversion: 1\nmodels: [composition]\n"
DATA = "datasets:\n  toy: {splits: [test], entry: toy.yaml}\n"
TASK = "tasks:\n  s2ef: {}\n"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (HEAD + DATA + TASK + "model: [emt]\n", 2, ["line 8", "model", "unknown key", "did you mean models?"]),
        (HEAD.replace("1", "one") + DATA + TASK, 2, ["line 2, version", "given: 'one'"]),
        (HEAD.replace("composition", "compositon") + DATA + TASK, 2, ["'compositon'", "did you mean composition?"]),
        (HEAD + DATA.replace("test]", "tset]") + TASK, 2, ["has no split 'tset'", "did you mean test?"]),
        (HEAD + DATA + "tasks:\n  s2ef: {metrics: [force_mae]}\n", 2, ["'force_mae'", "did you mean forces_mae"]),
        (HEAD + DATA.replace("toy.yaml", "nowhere.yaml") + TASK, 4, ["nowhere.yaml", "cannot be read"]),
        (HEAD + DATA.replace(", entry: toy.yaml", "") + TASK, 2, ["unknown dataset 'toy'"]),
        (BOMB, 2, ["line 1", "anchors and aliases are not allowed"]),
        (HEAD + HEAD + DATA + TASK, 2, ["line 4", "'suite' is given twice"]),
        (HEAD + DATA, 2, ["tasks", "missing"]),
        ("- just\n- a list\n", 2, ["the top level is not a mapping"]),
        ("suite: [never closed\n", 2, ["line "]),
        ("suite: !!python/object/apply:os.system [touch canary]\n", 2, ["line 1"]),
        ("suite: \x00\n", 2, ["suite-bad.yaml"]),
        ("", 2, ["the top level is not a mapping"]),
    ],
)
def test_a_bad_suite_is_refused_in_one_line_that_names_file_and_field(workspace, text, code, said):
    path = workspace.root / "suite-bad.yaml"
    path.write_text(text)
    line = one_error(workspace.cli("run", path), code)
    for part in said:
        assert part in line
    assert not workspace.results.exists()
    assert not (workspace.root / "canary").exists()


def test_a_suite_may_not_say_what_is_loaded(workspace):
    suite = workspace.suite([{"name": "emt", "settings": {"calculator": "os:system"}}])
    line = one_error(workspace.cli("run", suite), 2)
    assert "'calculator' decides what is loaded: only a card may set it" in line


def test_a_card_given_by_path_needs_consent(workspace):
    card = workspace.card("spring", "SpringAdapter")
    line = one_error(workspace.cli("run", workspace.suite([card])), 4)
    assert card in line
    assert line.endswith("read it, then give --trust")
    workspace.ok("run", workspace.suite([card]), "--trust")


def test_an_unknown_model_on_the_command_line_names_close_ones(workspace):
    line = one_error(workspace.cli("run", workspace.suite(["composition"]), "--models", "chgent"), 2)
    assert line == "mlipbench: error: unknown model 'chgent'; did you mean chgnet or schnet?"


def test_no_model_on_the_command_line_is_nothing_selected(workspace):
    one_error(workspace.cli("run", workspace.suite(["composition"]), "--models", ","), 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "toys", "--limit", "0"], "--limit"),
        (["run", "toys", "--no-such-option"], "--no-such-option"),
        (["rnu", "quickstart"], "rnu"),
        (["list", "modles"], "modles"),
        (["run"], "Missing argument 'SUITE'"),
    ],
)
def test_wrong_usage_is_one_line_that_says_where_help_is(workspace, arguments, said):
    line = one_error(workspace.cli(*arguments), 2)
    assert said in line
    assert line.endswith("--help`")


def spoiled(kind):
    """Return the text of an extended XYZ file whose fifth frame is bad."""
    frames = make_frames(5, seed=3)
    texts = [frame.text() for frame in frames]
    if kind == "truncated":
        texts[-1] = texts[-1][: len(texts[-1]) - 25]
    elif kind == "cut in the last number":
        texts[-1] = texts[-1].rstrip("\n")[:-1]
    elif kind == "no forces":
        rows = texts[-1].replace(":forces:R:3", "").splitlines()
        texts[-1] = "\n".join([*rows[:2], *(" ".join(row.split()[:4]) for row in rows[2:])]) + "\n"
    elif kind == "NaN energy":
        texts[-1] = texts[-1].replace(f"energy={frames[-1].energy!r}", "energy=NaN")
    elif kind == "infinite force":
        texts[-1] = texts[-1].replace(repr(float(frames[-1].forces[0, 0])), "inf")
    elif kind == "no element":
        texts[-1] = texts[-1].replace("\nCu ", "\nQq ").replace("\nO ", "\nQq ").replace("\nH ", "\nQq ")
    return "".join(texts)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("truncated", "the file ends inside this frame"),
        ("cut in the last number", "no newline at the end"),
        ("no forces", "no 'forces'; name the right key in the entry"),
        ("NaN energy", "energy is not finite; remove or repair this structure"),
        ("infinite force", "forces is not finite"),
        ("no element", "'Qq' is not a chemical symbol"),
    ],
)
def test_a_bad_frame_is_named_with_its_file(workspace, kind, said):
    path = workspace.data / "test.extxyz"
    path.write_text(spoiled(kind))
    line = one_error(workspace.cli("run", workspace.suite(["composition"])), 2)
    assert line.startswith(f"mlipbench: error: {path}: frame 4: ")
    assert said in line
    assert not workspace.results.exists()


def test_a_split_whose_files_are_missing_is_a_missing_prerequisite(workspace):
    (workspace.data / "test.extxyz").unlink()
    done = workspace.cli("run", workspace.suite(["composition"]))
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"mlipbench: {workspace.data / 'test.extxyz'}: dataset toy, split test: no such file; ")
    assert done.stdout == ""


@pytest.mark.parametrize("units", [{"energy": "kjoule", "forces": "eV/A"}, {"energy": "eV", "forces": "eV*A"}])
def test_an_unknown_unit_is_named(workspace, units):
    workspace.entry(units={**units, "length": "A"})
    line = one_error(workspace.cli("run", workspace.suite(["composition"])), 2)
    assert "toy.yaml" in line
    assert "units." in line
    assert next(value for value in units.values() if value not in {"eV", "eV/A"}) in line


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_object_arrays_are_refused_and_never_unpickled(workspace):
    canary = workspace.root / "canary"
    values = np.empty(2, dtype=object)
    values[:] = [Canary(canary), Canary(canary)]
    arrays = {"F": np.zeros((2, 3, 3)), "R": np.arange(18.0).reshape(2, 3, 3), "z": np.array([8, 1, 1])}
    np.savez(workspace.data / "test.npz", E=values, **arrays)
    keys = {"energy": "E", "forces": "F", "positions": "R", "numbers": "z"}
    files = {"test": {"files": ["test.npz"]}}
    workspace.entry(keys=keys, cluster="structure", pbc=[False] * 3, splits=files, fit_split=None)
    line = one_error(workspace.cli("run", workspace.suite(["emt"])), 2)
    assert "E: holds Python objects, which are not unpickled" in line
    assert not canary.exists()
    with np.load(workspace.data / "test.npz", allow_pickle=True) as archive:
        archive["E"]
    assert canary.exists()  # the canary would have told


@pytest.mark.parametrize(
    "arguments", [["list", "models"], ["--help"], ["schema", "manifest"], ["list", "metrics", "--json"]]
)
def test_a_reader_that_leaves_early_is_no_error(workspace, arguments):
    process = subprocess.Popen(
        workspace.command(*arguments),
        cwd=workspace.root,
        env=workspace.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()  # before anything is written: the first write fails
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert stderr == ""


def test_the_error_of_a_damaged_run_names_its_file(workspace):
    workspace.ok("run", workspace.suite(["composition"]))
    (run,) = workspace.runs().values()
    (run / "manifest.json").write_text('{"schema_version": 1')
    line = one_error(workspace.cli("score", run), 2)
    assert line.startswith(f"mlipbench: error: {run / 'manifest.json'}: damaged")
    done = workspace.cli("report", run)
    assert done.returncode == 5
    named, left = done.stderr.splitlines()
    assert named.startswith(f"mlipbench: {run / 'manifest.json'}: damaged")
    assert "there is no finished run" in left


def test_predictions_that_do_not_fit_the_data_are_refused(workspace):
    workspace.ok("run", workspace.suite(["composition"]))
    (run,) = workspace.runs().values()
    workspace.write_frames("test", make_frames(60, seed=4))
    line = one_error(workspace.cli("score", run), 2)
    assert "the data of toy/test are not those this run was made with" in line
