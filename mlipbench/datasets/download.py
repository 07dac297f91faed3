"""Downloads that go on where they were cut."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import PrerequisiteError

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from mlipbench.progress import Display

_TIMEOUT: Final = (10.0, 60.0)  # s, to connect, and between two pieces
_ATTEMPTS: Final = 5  # without a byte more
_PAUSE: Final = 1.0  # s, before the second attempt; it doubles
_PIECE: Final = 1 << 16  # what is lost where a connection is cut
_MB: Final = 10**6
_PARTIAL, _BEYOND = 206, 416
_SERVER_ERRORS: Final = 500


class ResumingDownloader:
    """What `pooch` calls to download: keeps what has come beside the target, and asks for the rest next time.

    Args:
        part: File of what has come so far; a JSON file beside it says of which file of the server it is.
        display: Shows progress.
    """

    def __init__(self, part: Path, display: Display) -> None:
        """Keep the arguments."""
        self._part = part
        self._display = display

    def __call__(self, url: str, output_file: Any, pooch: object) -> None:
        """Download a file; attempts that bring nothing are repeated a few times.

        Args:
            url: Its address.
            output_file: Where it goes to.
            pooch: Not used.

        Raises:
            PrerequisiteError: The server cannot be reached, has no such file, or keeps cutting the connection.
        """
        del pooch
        import requests

        failures, pause = 0, _PAUSE
        begun = self._size()
        while True:
            before = self._size()
            try:
                self._attempt(url)
            except requests.RequestException as error:
                status = None if error.response is None else error.response.status_code
                lasting = status is not None and status < _SERVER_ERRORS
                failures = 0 if self._size() > before else failures + 1
                if lasting or failures >= _ATTEMPTS:
                    raise PrerequisiteError(_cause(error)) from error
                time.sleep(pause)
                pause = _PAUSE if failures == 0 else 2 * pause
                continue
            break
        self._display.end(self._part.stem, "ok" if not begun else f"ok, from byte {begun} on")
        self._part.replace(output_file)
        self._note_path().unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget what has come."""
        self._part.unlink(missing_ok=True)
        self._note_path().unlink(missing_ok=True)

    def _attempt(self, url: str) -> None:
        """Ask for what is missing and write it.

        Raises:
            requests.RequestException: The connection failed or was cut, or the server refused.
        """
        import requests

        have = self._size()
        headers = {"Accept-Encoding": "identity"}  # ranges are of what lies on the server
        if have and (validator := self._validator(url)):
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == _BEYOND:
                self.discard()
                raise requests.ConnectionError("the server has another file now")
            response.raise_for_status()
            goes_on = response.status_code == _PARTIAL
            total = _length(response, have if goes_on else 0)
            self._check_space(total, have if goes_on else 0)
            self._note(url, response)
            self._write(response, total, have if goes_on else 0)

    def _write(self, response: requests.Response, total: int | None, have: int) -> None:
        self._display.begin(self._part.stem, 0 if total is None else -(-total // _MB), "MB")
        shown = have // _MB
        self._display.advance(shown)
        with self._part.open("ab" if have else "wb") as file:
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                done = file.tell() // _MB
                self._display.advance(done - shown)
                shown = done

    def _check_space(self, total: int | None, have: int) -> None:
        import shutil

        free = shutil.disk_usage(self._part.parent).free
        if total is not None and total - have > free:
            raise PrerequisiteError(
                f"{(total - have) / _MB:.0f} MB are to come and {free / _MB:.0f} MB are free", file=self._part.parent,
                remedy="make room, or choose another --data-root",
            )  # fmt: skip

    def _size(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def _note_path(self) -> Path:
        return self._part.with_name(f"{self._part.name}.json")

    def _note(self, url: str, response: requests.Response) -> None:
        tag = response.headers.get("ETag", "")
        validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
        self._note_path().write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def _validator(self, url: str) -> str | None:
        """Return what tells whether the server still has the file that the part is of, None where nothing does."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note_path().read_bytes())
            return note["validator"] if note["url"] == url else None
        return None


def _length(response: requests.Response, have: int) -> int | None:
    text = response.headers.get("Content-Length", "")
    return have + int(text) if text.isdecimal() else None


def _cause(error: Exception) -> str:
    """Return what went wrong in a few words."""
    import requests

    if isinstance(error, requests.HTTPError):
        return str(error).partition(" for url")[0].lower()
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the server keeps ending the connection early"
    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    return "the server cannot be reached"
