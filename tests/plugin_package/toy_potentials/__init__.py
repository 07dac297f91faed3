"""A package that tells when it is imported, and by which process."""

import os
from pathlib import Path

if "TOY_POTENTIALS_CANARY" in os.environ:
    with Path(os.environ["TOY_POTENTIALS_CANARY"]).open("a", encoding="utf-8") as _file:
        _file.write(f"{os.getpid()}\n")
