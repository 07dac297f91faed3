"""Packages of a few bytes, made by hand, and an index that serves them: environments are built from these offline."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Reports that it began, then waits for leave to go on.
SLOW_BACKEND = """
import os, time, pathlib
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open(os.environ["TEST_BEGUN"], "a") as begun:
        begun.write(f"{os.getpid()}\\n")
    while not pathlib.Path(os.environ["TEST_LEAVE"]).exists():
        time.sleep(0.05)
    name = "slow-1.0-py3-none-any.whl"
    pathlib.Path(wheel_directory, name).write_bytes(pathlib.Path("payload.whl").read_bytes())
    return name
"""
BROKEN_BACKEND = """
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("compiling a.c\\\\n" * 200)
    raise RuntimeError("error: command 'nvcc' failed: No such file or directory")
"""


def wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = (), **files: str) -> Path:
    """Write a wheel that holds a module of its name, and further files by their name (``__`` stands for a dot)."""
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    path.write_bytes(wheel_bytes(name, version, requires, **files))
    return path


def wheel_bytes(name: str, version: str, requires: tuple[str, ...] = (), **files: str) -> bytes:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    content = {f"{module}.py": f"version = {version!r}\n"}
    content[f"{info}/METADATA"] = metadata(name, version, requires)
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content |= {key.replace("__", "."): text for key, text in files.items()}
    rows = [f"{place},sha256={_digest(text)},{len(text.encode())}" for place, text in content.items()]
    content[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for place, text in content.items():
            archive.writestr(zipfile.ZipInfo(place, (2020, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def metadata(name: str, version: str, requires: tuple[str, ...] = ()) -> str:
    lines = [f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {one}" for one in requires)]) + "\n"


def source(folder: Path, name: str, backend: str) -> Path:
    """Write a source distribution, version 1.0, that is built by a backend of its own."""
    files = {
        "PKG-INFO": metadata(name, "1.0").encode(),
        "pyproject.toml": (
            b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            + f'[project]\nname = "{name}"\nversion = "1.0"\n'.encode()
        ),
        "backend.py": backend.encode(),
        "payload.whl": wheel_bytes(name, "1.0"),
    }
    path = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for place, content in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{place}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class Index:
    """A package index on this machine that serves a folder of wheels and remembers what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.logins: set[str] = set()
        self.broken = False
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.answer(self)

            do_HEAD = do_GET  # noqa: N815 - the name that the base class looks for

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        login = request.headers.get("Authorization", "").removeprefix("Basic ")
        self.logins.add(base64.b64decode(login).decode())
        found = self.content(request.path.removeprefix("/simple/").strip("/"))
        request.send_response(500 if self.broken else 404 if found is None else 200)
        body = b"" if self.broken or found is None else found
        request.send_header("Content-Type", "text/html" if request.path.endswith("/") else "application/octet-stream")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

    def content(self, place: str) -> bytes | None:
        if place.endswith(".whl.metadata"):
            with zipfile.ZipFile(self.folder / place.removesuffix(".metadata")) as archive:
                return archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA")))
        if place.endswith(".whl"):
            return (self.folder / place).read_bytes()
        links = [
            f'<a href="/simple/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"'
            f' data-core-metadata="true">{path.name}</a>'
            for path in self.folder.glob("*.whl")
            if path.name.split("-")[0].replace("_", "-").lower() == place
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode() if links else None


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
