"""Where the files of a dataset are published."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

_CHECKSUMS: Final = {"md5": 32, "sha256": 64}
_ADDRESS: Final = re.compile(r"https?://\S+")


class Archive(BaseModel):
    """A file that is downloaded, and unpacked where it is an archive.

    Attributes:
        file: Its name.
        urls: Where it can be had; mirrors follow the official address.
        md5: Checksum, None where nobody published one.
        sha256: Likewise. Where neither was published, the first download records one.
        folder: Folder below the data root that it goes to, and is unpacked into; ``.`` is the root itself.
        unpack: Whether it is a tar or zip archive.
        size: Bytes to download, as published and thus perhaps rounded; None where nobody says.
        unpacked: Likewise, bytes on disk after unpacking.
        splits: Splits it is needed for; empty for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
    urls: Annotated[tuple[str, ...], Field(min_length=1)]
    md5: str | None = None
    sha256: str | None = None
    folder: Annotated[str, Field(pattern=r"^(\.|[A-Za-z0-9][A-Za-z0-9._/-]*)$")]
    unpack: bool = False
    size: PositiveInt | None = None
    unpacked: PositiveInt | None = None
    splits: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if ".." in self.folder.split("/"):
            raise ValueError("folder must not contain '..'")
        for url in self.urls:
            if not _ADDRESS.fullmatch(url):
                raise ValueError(f"{url!r} is no http or https address")
        for name, digits in _CHECKSUMS.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", value):
                raise ValueError(f"{name} must be {digits} lower-case hexadecimal digits, or null")
        return self

    @property
    def checksum(self) -> str | None:
        """The strongest published checksum, such as ``sha256:...``, or None."""
        if self.sha256 is not None:
            return f"sha256:{self.sha256}"
        return None if self.md5 is None else f"md5:{self.md5}"

    def serves(self, split: str) -> bool:
        """Return whether a split needs it."""
        return not self.splits or split in self.splits
