"""Weights found by name are held to the checksum of the card, or of their first use."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.trusted import check_named

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS, OTHERS = b"weights", b"other weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLIPBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small.model"
    path.write_bytes(WEIGHTS)
    return path


def test_the_first_use_is_recorded_and_others_are_refused_then(file: Path, tmp_path: Path) -> None:
    assert check_named("mace-mp", "a/small", file, None) == SHA256
    (record,) = (tmp_path / "cache" / "recorded").iterdir()
    assert json.loads(record.read_text())["sha256"] == SHA256
    assert check_named("mace-mp", "a/small", file, None) == SHA256
    file.write_bytes(OTHERS)
    found = hashlib.sha256(OTHERS).hexdigest()
    with pytest.raises(ConfigError) as caught:
        check_named("mace-mp", "a/small", file, None)
    assert str(caught.value) == (
        f"{file}: the file of 'a/small' has sha256 {found}, at its first use here it had {SHA256};"
        f" delete the file to have it downloaded again, or {record} if it was published anew"
    )
    assert check_named("mace-off", "a/small", file, None) == found  # another family's name is another name


def test_what_the_card_pins_decides(file: Path) -> None:
    assert check_named("mace-mp", "small", file, SHA256) == SHA256
    with pytest.raises(ConfigError, match=f"has sha256 {SHA256}, the card pins {'0' * 64}; delete the file to have"):
        check_named("mace-mp", "small", file, "0" * 64)
    file.write_bytes(OTHERS)
    pinned = hashlib.sha256(OTHERS).hexdigest()
    assert check_named("mace-mp", "small", file, pinned) == pinned  # a card may follow what was published anew


def test_a_file_that_cannot_be_read_is_missing(file: Path) -> None:
    with pytest.raises(PrerequisiteError, match="cannot be read"):
        check_named("mace-mp", "small", file.with_name("absent"), None)
