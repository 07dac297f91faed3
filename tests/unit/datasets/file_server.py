"""A server on this machine that behaves as badly as it is told."""

from __future__ import annotations

import contextlib
import http.server
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Behaviour:
    """What the server does, and what it was asked for.

    Attributes:
        files: Contents by path.
        cut_after: Bytes after which a connection is cut, one number a connection; afterwards none is.
        length: Added to the length that it claims.
        ranges: Whether it knows ranges.
        status: Answered in place of 200, one number a request.
        tag: Of the version of the files.
        asked: Path and range of every request.
        sent: Bytes of bodies that were sent.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    length: int = 0
    ranges: bool = True
    status: list[int] = field(default_factory=list)
    tag: str = '"first"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0


def _handler(behaviour: Behaviour) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            behaviour.asked.append((self.path, wanted))
            content = behaviour.files.get(self.path)
            status = behaviour.status.pop(0) if behaviour.status else 404 if content is None else 200
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first = 0
            if wanted and behaviour.ranges and self.headers.get("If-Range") in {None, behaviour.tag}:
                first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first > len(content):
                self.send_error(416)
                return
            self.send_response(206 if first else 200)
            self.send_header("ETag", behaviour.tag)
            self.send_header("Content-Length", str(len(content) - first + behaviour.length))
            self.end_headers()
            body = content[first:]
            if behaviour.cut_after:
                body = body[: behaviour.cut_after.pop(0)]
            behaviour.sent += len(body)
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, Behaviour]]:
    """Yield the address of a server and what it does."""
    behaviour = Behaviour()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(behaviour)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", behaviour
        finally:
            server.shutdown()
