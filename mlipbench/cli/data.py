"""``mlipbench data``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mlipbench.cli import completion, options
from mlipbench.cli.output import aligned, emit, emit_json, say
from mlipbench.errors import DatasetError, ExitCode, MlipbenchError

DatasetsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATASET...", help="Names of shipped datasets, or YAML files.", autocompletion=completion.datasets
    ),
]

app = typer.Typer(help="Prepare and verify datasets.", rich_markup_mode=None)


@app.command()
def prepare(
    datasets: DatasetsArgument, data_root: options.DataRootOption = None, json: options.JsonOption = False
) -> int:
    """Convert the files of datasets once, so that later commands start at once."""
    from mlipbench.datasets.prepare import open_split

    return _each(datasets, data_root, open_split, json=json)


@app.command()
def verify(
    datasets: DatasetsArgument, data_root: options.DataRootOption = None, json: options.JsonOption = False
) -> int:
    """Read the files of datasets again and compare them with what was converted."""
    from mlipbench.datasets.prepare import verify as check

    return _each(datasets, data_root, check, json=json)


def _each(names: list[str], data_root: Path | None, action: Callable[..., Any], *, json: bool) -> int:
    """Apply an action to every split; a split that fails does not keep the others from being looked at."""
    from mlipbench.datasets.entry import load_entry
    from mlipbench.datasets.prepare import VerifyReport

    location = options.data_location(data_root)
    rows: list[dict[str, Any]] = []
    code = ExitCode.DONE
    for entry in [load_entry(name) for name in names]:
        for split in entry.splits:
            row = {"dataset": entry.name, "split": split, "structures": None, "status": "ok", "problem": None}
            try:
                found = action(entry, split, location)
                row["structures"] = found.n_structures
                if isinstance(found, VerifyReport) and found.problems:
                    raise DatasetError("; ".join(found.problems))
            except MlipbenchError as error:
                say(f"mlipbench: error: {error}")
                row |= {"status": "failed", "problem": str(error)}
                code = max(code, error.exit_code)
            rows.append(row)
    if json:
        emit_json(rows)
    else:
        emit(aligned(rows, ("dataset", "split", "structures", "status")))
    return int(code)
