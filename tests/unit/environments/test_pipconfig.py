"""What pip was told about indexes, in pip's own precedence, and that none of it gets out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlipbench.environments.pipconfig import Indexes, configuration_files, pip_indexes
from mlipbench.errors import ConfigError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without any file of pip's, and the variables that lead there."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    return {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "shared")}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_count_in_the_order_of_pip(home, tmp_path):
    assert configuration_files(home, "linux") == [
        tmp_path / "shared/pip/pip.conf",
        Path("/etc/pip.conf"),
        tmp_path / ".pip/pip.conf",
        tmp_path / ".config/pip/pip.conf",
        tmp_path / "prefix/pip.conf",
    ]
    own = write(tmp_path / "own.conf", "")
    assert configuration_files({**home, "PIP_CONFIG_FILE": str(own)}, "linux")[2:] == [
        tmp_path / "prefix/pip.conf",
        own,
    ]
    assert configuration_files({**home, "PIP_CONFIG_FILE": os.devnull}, "linux") == []
    mac = configuration_files(home, "darwin")
    assert mac[:3] == [
        Path("/Library/Application Support/pip/pip.conf"),
        tmp_path / ".pip/pip.conf",
        tmp_path / ".config/pip/pip.conf",
    ]


def test_later_files_sections_of_the_command_and_variables_win(home, tmp_path):
    write(tmp_path / "shared/pip/pip.conf", "[global]\nindex-url = http://a/\n[install]\nretries = 1\n")
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex_url = http://b/\nretries = 2\ntimeout = 7\n")
    found = pip_indexes(home)
    assert found.index == "http://b/"
    assert found.network["UV_HTTP_RETRIES"] == "1"
    assert found.network["UV_HTTP_TIMEOUT"] == "7"
    assert pip_indexes({**home, "PIP_INDEX_URL": "http://c/"}).index == "http://c/"
    assert pip_indexes({**home, "PIP_INDEX_URL": ""}).index == "http://b/"


def test_lists_are_split_where_pip_splits_them(home, tmp_path):
    text = "[global]\nfind-links =\n    /one\n    http://two/\nextra-index-url = http://x/ http://y/\nno-index = yes\n"
    write(tmp_path / ".config/pip/pip.conf", text + "trusted-host = h1\n    h2\ncert = /c.pem\nproxy = http://p:1\n")
    found = pip_indexes(home)
    assert found.find_links == ("/one", "http://two/")
    assert found.extra == ("http://x/", "http://y/")
    assert found.trusted == ("h1", "h2")
    assert found.no_index
    assert found.network["SSL_CERT_FILE"] == "/c.pem"
    assert found.network["HTTPS_PROXY"] == found.network["HTTP_PROXY"] == "http://p:1"


def told_by_pip(env):
    """Return the values that pip lists, by key; releases differ in whether they list those that others hide."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.check_output(command, env=env, text=True)
    values = {}
    for line in said.splitlines():
        key, _, value = line.partition("=")
        values.setdefault(key.rpartition(".")[2], []).append(value)
    return values


def test_pip_itself_reads_the_same(tmp_path):
    """An independent program: `pip config list` prints what it found."""
    pytest.importorskip("pip", reason="needs pip in this interpreter")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "c"), "XDG_CONFIG_DIRS": str(tmp_path / "s")}
    write(tmp_path / "s/pip/pip.conf", "[global]\nindex-url = http://shared/\nfind-links = /s\n")
    write(tmp_path / ".pip/pip.conf", "[global]\nindex-url = http://legacy/\nextra-index-url = http://e/\n")
    write(tmp_path / "c/pip/pip.conf", "[global]\nindex-url = http://user/%41\n")
    own = write(tmp_path / "own.conf", "[global]\nindex-url = http://own/\n")
    for more in ({}, {"PIP_CONFIG_FILE": str(own)}, {"PIP_INDEX_URL": "http://var/"}, {"PIP_CONFIG_FILE": os.devnull}):
        found = pip_indexes({**env, **more})
        told = told_by_pip({**env, **more})
        for name, values in (
            ("index-url", [found.index] if found.index else []),
            ("extra-index-url", found.extra),
            ("find-links", found.find_links),
        ):
            assert bool(values) == (name in told), name
            assert {repr(value) for value in values} <= set(told.get(name, ())), name


def test_a_damaged_file_is_named_without_what_stands_in_it(home, tmp_path):
    path = write(tmp_path / ".config/pip/pip.conf", "index-url = http://me:canary@h/\n")
    with pytest.raises(ConfigError) as caught:
        pip_indexes(home)
    assert str(caught.value).startswith(f"{path}: is no valid pip configuration")
    assert "canary" not in str(caught.value)


def test_addresses_go_to_uv_by_its_variables_and_local_folders_by_options():
    found = Indexes(
        index="http://me:canary@a/",
        extra=("http://b/", "http://c/"),
        find_links=("/one", "http://two/x,y"),
        no_index=True,
        trusted=("h",),
        network={"SSL_CERT_FILE": "/c.pem"},
    )
    options = found.options()
    assert "canary" not in " ".join(options)
    assert options == ["--index-strategy", "unsafe-best-match", "--no-index", "--find-links", "/one"]
    given = {"PATH": "/bin", "PIP_INDEX_URL": "x", "PYTHONPATH": "x", "UV_OVERRIDE": "x", "UV_CACHE_DIR": "/u"}
    assert found.variables({**given, "VIRTUAL_ENV": "/v"}) == {
        "PATH": "/bin",
        "UV_CACHE_DIR": "/u",
        "UV_DEFAULT_INDEX": "http://me:canary@a/",
        "UV_INDEX": "http://b/ http://c/",
        "UV_FIND_LINKS": "http://two/x%2Cy",
        "UV_INSECURE_HOST": "h",
        "SSL_CERT_FILE": "/c.pem",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot fetch `https://me:can%2Fary@host.example/simple/torch/`", "cannot fetch `<index>/torch`"),
        ("login me:can/ary refused", "login *** refused"),
        ("password can/ary", "password ***"),
        ("https://other.example/whl/torch-2.whl?X-Amz=1 is gone", "<index>/torch-2.whl is gone"),
        ("see file:///wheels/a.whl", "see file:///wheels/a.whl"),
        ("bearer tok-canary", "bearer ***"),
        ("numpy>=1.26 is met", "numpy>=1.26 is met"),
    ],
)
def test_what_is_shown_holds_no_address_and_no_secret(text, shown):
    found = Indexes(index="https://me:can%2Fary@host.example/simple/", extra=("https://host.example/?key=tok-canary",))
    assert found.censor(text) == shown
