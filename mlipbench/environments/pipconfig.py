"""What the user told pip about where packages are: read from pip's files and variables, handed to uv.

The values may hold credentials. They are given to uv by its environment, and `Indexes.censor` takes them out of
whatever uv prints before anything of it is shown or kept.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from mlipbench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FILE: Final = "pip.conf"
_SECTIONS: Final = ("global", "install")  # the command's own section counts more, whichever file it stands in
_TRUE: Final = frozenset({"1", "true", "yes", "on", "y", "t"})
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"`,<>)\]]+")
_SHORTEST: Final = 4  # of what is taken out of texts; shorter words stand in too many others
# What uv reads of its own and what does not change which packages are chosen.
_UV_KEPT: Final = (
    "UV_CACHE_DIR", "UV_CONCURRENT_", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_HTTP_",
    "UV_INDEX", "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_LINK_MODE", "UV_NATIVE_TLS", "UV_NO_CACHE",
    "UV_OFFLINE", "UV_SYSTEM_CERTS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Indexes:
    """Where packages are looked for.

    Attributes:
        index: The index in place of PyPI, or None.
        extra: Further indexes.
        find_links: Folders, files and pages with links to packages.
        no_index: Whether no index is asked at all.
        trusted: Hosts whose certificates are not checked.
        network: Certificates, proxy, timeout and retries, as variables.
    """

    index: str | None = None
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    trusted: tuple[str, ...] = ()
    network: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def options(self) -> list[str]:
        """Return uv's options: pip's way of choosing among indexes, and what no variable can say."""
        local = [_local(place) for place in self.find_links if "://" not in place]
        chosen = ["--index-strategy", "unsafe-best-match", *(["--no-index"] if self.no_index else [])]
        return [*chosen, *(word for place in local for word in ("--find-links", place))]

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for uv: `environ`, and the indexes in uv's own variables."""
        kept = {name: value for name, value in environ.items() if not _dropped(name)}
        remote = ",".join(place.replace(",", "%2C") for place in self.find_links if "://" in place)
        said = {
            "UV_DEFAULT_INDEX": self.index or "",
            "UV_INDEX": " ".join(self.extra),
            "UV_FIND_LINKS": remote,
            "UV_INSECURE_HOST": " ".join(self.trusted),
            **self.network,
        }
        return {**kept, **{name: value for name, value in said.items() if value}}

    @property
    def secret(self) -> tuple[str, ...]:
        """What must not appear anywhere: addresses, and the names, passwords and tokens in them; longest first."""
        addresses = [*([self.index] if self.index else []), *self.extra, *self.find_links]
        found = {part for address in [*addresses, *self.network.values()] for part in _secrets(address)}
        return tuple(sorted(found, key=len, reverse=True))

    def censor(self, text: str) -> str:
        """Return a text without addresses of the network and without anything secret."""
        text = _URL.sub(_shortened, text)
        for part in self.secret:
            text = text.replace(part, "***")
        return text


def pip_indexes(environ: Mapping[str, str] | None = None) -> Indexes:
    """Return what pip's files and variables say, with pip's own precedence.

    Args:
        environ: Variables; None takes those of the process.

    Raises:
        ConfigError: A file is damaged.
    """
    values = _values(os.environ if environ is None else environ)
    network = {
        "SSL_CERT_FILE": values.get("cert"),
        "SSL_CLIENT_CERT": values.get("client-cert"),
        "HTTP_PROXY": values.get("proxy"),
        "HTTPS_PROXY": values.get("proxy"),
        "UV_HTTP_TIMEOUT": values.get("timeout") or values.get("default-timeout"),
        "UV_HTTP_RETRIES": values.get("retries"),
    }
    return Indexes(
        index=values.get("index-url") or values.get("pypi-url"),
        extra=tuple(values.get("extra-index-url", "").split()),
        find_links=tuple(values.get("find-links", "").split()),
        no_index=values.get("no-index", "").lower() in _TRUE,
        trusted=tuple(values.get("trusted-host", "").split()),
        network=MappingProxyType({name: value for name, value in network.items() if value}),
    )


def configuration_files(environ: Mapping[str, str], platform: str = sys.platform) -> list[Path]:
    """Return where pip's files may be, those that count less first.

    Args:
        environ: Variables.
        platform: As `sys.platform`.
    """
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
    if platform == "darwin":
        shared = [Path("/Library/Application Support/pip")]
        support = home / "Library" / "Application Support" / "pip"
        user = support if support.is_dir() else home / ".config" / "pip"
    else:
        folders = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
        shared = [*(Path(folder) / "pip" for folder in folders.split(os.pathsep) if folder), Path("/etc")]
    places = [*shared]
    if not (own and Path(own).exists()):  # a file of this variable stands in place of the user's
        places += [home / ".pip", user]
    places.append(Path(sys.prefix))
    return [*(place / _FILE for place in places), *([Path(own)] if own else [])]


def _values(environ: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings for `install` by option."""
    sections: dict[str, dict[str, str]] = {name: {} for name in _SECTIONS}
    for path in configuration_files(environ):
        for section, name, value in _settings(path):
            if section in sections and value:
                sections[section][_option(name)] = value
    variables = {
        _option(name.removeprefix("PIP_")): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    return {**sections["global"], **sections["install"], **variables}


def _settings(path: Path) -> Iterator[tuple[str, str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, UnicodeDecodeError, configparser.Error):  # its message may quote a line with a password
        raise ConfigError("is no valid pip configuration", file=path, remedy="see `pip config debug`") from None
    for section in parser.sections():
        for name, value in parser.items(section):
            yield section, name, value


def _option(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _local(place: str) -> str:
    return str(Path(place).expanduser().absolute())


def _dropped(name: str) -> bool:
    kept = name.startswith(_UV_KEPT) or not name.startswith("UV_")
    return not kept or name.startswith(("PIP_", "PYTHON")) or name in {"VIRTUAL_ENV", "CONDA_PREFIX"}


def _secrets(address: str) -> Iterator[str]:
    """Yield an address of the network and its login, in plain and in percent-encoded form."""
    if "://" not in address or address.startswith("file:"):
        return
    parts = urlsplit(address)
    yield address
    login = parts.netloc.rpartition("@")[0]
    password = login.partition(":")[2]
    for part in (login, password, parts.query, *(value for _, value in parse_qsl(parts.query))):
        if len(part) >= _SHORTEST:
            yield part
            yield unquote(part)


def _shortened(match: re.Match[str]) -> str:
    """Return the file that an address of the network leads to, without the way there."""
    address = match.group()
    scheme, _, rest = address.partition("://")
    name = rest.partition("?")[0].partition("/")[2].rstrip("/").rpartition("/")[2]
    return address if scheme == "file" else f"<index>/{name}".rstrip("/")
