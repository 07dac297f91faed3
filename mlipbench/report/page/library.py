"""The JavaScript that draws plots: Vega-Lite, made from the Python package that carries it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from mlipbench.cachedir import default_cache
from mlipbench.store.files import write_atomically

_PACKAGE: Final = "vl-convert-python"
_SNIPPET: Final = "window.vegaEmbed = vegaEmbed;"


def plotting_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script.

    Making it takes seconds, so that it is kept in the cache, one file a version of the package. No network is needed.

    Raises:
        MlipbenchError: The cache cannot be written.
    """
    path = default_cache() / "page" / f"vega-{version(_PACKAGE)}.js"
    if not path.is_file():
        import vl_convert

        write_atomically(path, vl_convert.javascript_bundle(_SNIPPET).encode())
    return path.read_text(encoding="utf-8")
