"""``mlipbench export``."""

from pathlib import Path
from typing import Annotated

import typer

from mlipbench.cli import options
from mlipbench.cli.output import aligned, emit, emit_json
from mlipbench.errors import ExitCode

app = typer.Typer(help="Write predictions in the formats of others.", rich_markup_mode=None)


@app.callback()
def _formats() -> None:
    """Write predictions in the formats of others."""


@app.command("oc20-npz")
def oc20_npz(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory with the four splits of OC20.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The file to write.")] = Path("oc20.npz"),
    data_root: options.DataRootOption = None,
    json: options.JsonOption = False,
) -> int:
    """Write the predictions of a run as OC20's public leaderboard takes them: free atoms, half precision."""
    from mlipbench.export.oc20 import export_oc20

    sizes = export_oc20(run, output, options.data_location(data_root))
    if json:
        emit_json({"file": str(output), "structures": sizes})
    else:
        emit(aligned([{"split": name, "structures": size} for name, size in sizes.items()], ("split", "structures")))
        emit(str(output))
    return int(ExitCode.DONE)
