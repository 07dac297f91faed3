"""A token of the hub goes to the hub and nowhere else."""

from __future__ import annotations

import http.server
import importlib.metadata
import threading
from typing import TYPE_CHECKING, Any

import pytest
from integration_helpers import Workspace, make_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.fairchem, pytest.mark.timeout(900)]
TOKEN = "hf_canaryCANARYcanaryCANARYcanaryCANARY"  # noqa: S105 - nobody's
MODEL = "uma-s"


def _installed() -> bool:
    try:
        return importlib.metadata.version("fairchem-core").startswith("2.")
    except importlib.metadata.PackageNotFoundError:
        return False


if not _installed():
    pytest.skip("needs fairchem-core 2", allow_module_level=True)


class _Gated(http.server.BaseHTTPRequestHandler):
    """Says of every file that one has to ask for it, and remembers who asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Authorization", ""))
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - as the library wants it

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that refuses, and the authorisations it was sent."""
    handler = type("Handler", (_Gated,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.asked
        server.shutdown()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.patience = 600.0
    for name in [name for name in made.env if name.startswith(("HF_", "HUGGING", "FAIRCHEM_"))]:
        del made.env[name]
    made.env |= {"HF_HOME": str(tmp_path / "hub"), "FAIRCHEM_CACHE_DIR": str(tmp_path / "fairchem")}
    made.write_frames("train", make_frames(20, seed=1))
    made.write_frames("test", make_frames(8, seed=2))
    made.entry(level_of_theory="RPBE (VASP, 350 eV)")
    return made


def run(workspace: Workspace, **env: str) -> Any:
    done = workspace.cli("run", workspace.suite(["composition", MODEL]), "--display", "none", **env)
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"mlipbench: {MODEL}: the weights of 'uma-s-1p2p1' are not on this machine and cannot be ")
    assert (workspace.runs()["composition"] / "metrics.json").exists()  # the rest of the suite ran
    return done


def test_a_token_is_sent_to_the_hub_alone(workspace: Workspace, hub: tuple[str, list[str]]) -> None:
    address, asked = hub
    done = run(workspace, HF_TOKEN=TOKEN, HF_ENDPOINT=address)
    assert f"Bearer {TOKEN}" in asked
    assert "accept the licence at " in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert any(path.name == "log.txt" for path in files)
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_without_a_token_and_a_connection_the_line_says_how_to_get_the_weights(workspace: Workspace) -> None:
    done = run(workspace, HF_HUB_OFFLINE="1")
    assert "no token of the Hugging Face hub was found" in done.stderr
