"""What fairchem-core 1.10 uses of torch-scatter and torch-sparse, in plain torch.

These packages are compiled extensions without wheels for every release of torch. Where they are installed they are
used; where they are not, the modules here take their names, for the life of the worker process.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import MappingProxyType
from typing import Final

_MODULES: Final = MappingProxyType(
    {
        "torch_scatter": ("torch_scatter", "torch_scatter.utils"),
        "torch_sparse": ("torch_sparse",),
    }
)


def provide() -> tuple[str, ...]:
    """Put stand-ins in the place of the packages that are not installed, and return the names of these.

    torch-geometric looks for the same packages when it is imported, to use more of them than the stand-ins hold;
    it is imported before they are there.
    """
    importlib.import_module("torch_geometric")
    missing = tuple(name for name in _MODULES if name not in sys.modules and importlib.util.find_spec(name) is None)
    for name in missing:
        module = importlib.import_module(f"{__name__}.{name}")
        for alias in _MODULES[name]:
            sys.modules[alias] = module
    return missing
