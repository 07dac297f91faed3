from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, ConfigDict

from mlipbench.errors import ConfigError, ExitCode, PrerequisiteError
from mlipbench.yamlfile import did_you_mean, dotted, read_yaml, validate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    files: list[int]


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    splits: dict[str, Inner] = {}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def put(text: str | bytes) -> Path:
        path = tmp_path / "a.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def test_reads_plain_data(write: Callable[[str | bytes], Path]) -> None:
    assert read_yaml(write("a: 1\nb: [x, {c: null}]\n")) == {"a": 1, "b": ["x", {"c": None}]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: *x\n", "line 1: anchors and aliases"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice"),
        ("a: {b: 1, b: 2}\n", "line 1: the key 'b' is given twice"),
        ("- 1\n", "not a mapping"),
        ("", "not a mapping"),
        ("a: [1\n", "line 2"),
        ("on: 1\n", "line 1: the key 'on' is not text"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: could not determine a constructor"),
        ("a: \x07\n", "not valid YAML"),
        ("a: 9999-99-99\n", "not valid YAML"),
        ("? [1]\n: 2\n", "is not text"),
        (b"a: \xff\n", "byte 3 is not UTF-8"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper than 20"),
        ("a: " + "[" * 50_000, "nested deeper than 20"),
        ("#" * (1 << 20) + "\n", "larger than 1 MiB"),
        ("<<: {a: 1}\na: 2\n", "line 1: "),
    ],
)
def test_refuses_in_one_line(write: Callable[[str | bytes], Path], text: str, expected: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_prerequisite(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="cannot be read") as caught:
        read_yaml(tmp_path / "none.yaml")
    assert caught.value.exit_code is ExitCode.MISSING


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: x\nsplits:\n  a:\n    fils: [1]\n", "line 4, splits.a.fils: unknown key (1 more); did you mean files?"),
        ("name: x\nsplits:\n  a:\n    files: [1, z]\n", "line 4, splits.a.files[1]: Input should be a valid integer"),
        ("splits: {}\n", ": name: missing"),
        ("name: x\nzzz: 1\n", "line 2, zzz: unknown key; known: name, splits"),
    ],
)
def test_validation_names_line_field_and_close_match(
    write: Callable[[str | bytes], Path], text: str, expected: str
) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        validate(Outer, read_yaml(path), path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_validation_returns_the_model(tmp_path: Path) -> None:
    assert validate(Outer, {"name": "x"}, tmp_path / "not-there.yaml") == Outer(name="x")
    with pytest.raises(ConfigError, match="name: missing"):
        validate(Outer, {}, tmp_path / "not-there.yaml")


def test_helpers() -> None:
    assert dotted(("splits", "fit", "files", 0)) == "splits.fit.files[0]"
    assert did_you_mean("MACE", ["mace", "chgnet"]) == "did you mean mace?"
    assert did_you_mean("qqq", ["mace", "chgnet"]) == "known: chgnet, mace"
    assert did_you_mean("qqq", []) == "none is known"
