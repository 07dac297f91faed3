"""``mlipbench score``."""

from pathlib import Path
from typing import Annotated

import typer

from mlipbench.cli import options
from mlipbench.cli.output import emit_json
from mlipbench.errors import ExitCode


def score(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.")],
    data_root: options.DataRootOption = None,
    json: options.JsonOption = False,
) -> int:
    """Rebuild scores and metrics of runs from their predictions; no model is needed."""
    from mlipbench.cli.run import as_dict, show_tables
    from mlipbench.comparison.collect import collect
    from mlipbench.scoring import score_run

    location = options.data_location(data_root)
    for run in runs:
        score_run(run, location)
    records = collect(runs)
    if json:
        emit_json([as_dict(record) for record in records])
    else:
        show_tables(records)
    return int(ExitCode.DONE)
