"""Locks and what must not stand in them."""

from __future__ import annotations

import hashlib

import pytest

from mlipbench.environments.lock import Lock
from mlipbench.errors import ConfigError, PrerequisiteError

HASH = "--hash=sha256:" + "0a" * 32


def test_packages_facts_and_checksum():
    text = f"# python: 3.11\n# a remark\nNumPy==2.4.6 \\\n    {HASH} \\\n    {HASH}\n\ntorch==2.13.0+cpu {HASH}\n"
    lock = Lock.parse(text)
    assert lock.packages == {"numpy": "2.4.6", "torch": "2.13.0+cpu"}
    assert lock.facts == {"python": "3.11"}
    assert lock.sha256 == hashlib.sha256(text.encode()).hexdigest()
    again = Lock.made({"environment": "acme", "compute": "cpu"}, f"a==1 {HASH}\n")
    assert again.text == f"# environment: acme\n# compute: cpu\na==1 {HASH}\n"
    assert again.facts == {"environment": "acme", "compute": "cpu"}


@pytest.mark.parametrize(
    "line",
    [
        "numpy==2.4.6",
        f"numpy>=2.4.6 {HASH}",
        f"numpy @ file:///home/me/numpy.whl {HASH}",
        f"numpy @ https://host.example/numpy.whl {HASH}",
        f"numpy==2.4.6 ; python_version < '3' {HASH}",
        "--index-url https://host.example/simple",
        "-r other.txt",
        "/home/me/numpy.whl",
        f"numpy==2.4.6 {HASH} \\",
    ],
)
def test_anything_but_pins_with_hashes_is_refused(line):
    valid = f"a==1 {HASH}\n"
    if line.endswith("\\"):  # a line that goes on with nothing is whole
        assert Lock.parse(valid + line).packages == {"a": "1", "numpy": "2.4.6"}
        return
    with pytest.raises(ConfigError, match="line 2: is no pinned package with hashes"):
        Lock.parse(valid + line)


@pytest.mark.parametrize(("content", "said"), [(b"", "holds no package"), (b"\xff==1", "is not UTF-8")])
def test_what_is_no_lock_is_named(tmp_path, content, said):
    path = tmp_path / "my.lock"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"my.lock: {said}"):
        Lock.read(path)


def test_a_missing_lock_is_missing(tmp_path):
    with pytest.raises(PrerequisiteError, match="cannot be read"):
        Lock.read(tmp_path / "no.lock")
