"""``mlipbench data``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlipbench.cli import completion, options
from mlipbench.cli.output import aligned, emit, emit_json, say
from mlipbench.errors import DatasetError, ExitCode, MlipbenchError, PrerequisiteError

if TYPE_CHECKING:
    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.datasets.sources import Archive

DatasetsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATASET...", help="Names of shipped datasets, or YAML files.", autocompletion=completion.datasets
    ),
]

app = typer.Typer(help="Fetch, prepare and verify datasets.", rich_markup_mode=None)


@app.command()
def fetch(
    datasets: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET[:SPLIT]...",
            help="Names of shipped datasets or YAML files, and of one of their splits.",
            autocompletion=completion.datasets,
        ),
    ],
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root", metavar="DIR", envvar="MLIPBENCH_DATA", help="Where to put them; the cache if left out."
        ),
    ] = None,
    display: options.DisplayOption = None,
    json: options.JsonOption = False,
) -> int:
    """Download the files of datasets, verify and unpack them; what is there already is verified only."""
    from mlipbench.cachedir import default_cache
    from mlipbench.cli.display import open_display
    from mlipbench.datasets.fetch import fetch as get

    root = data_root or default_cache() / options.FETCHED
    rows: list[dict[str, Any]] = []
    code = ExitCode.DONE
    with open_display(display) as shown:
        for entry, archive in _archives(datasets):
            row = {"dataset": entry.name, "file": archive.file, "folder": str(root / archive.folder), "status": "ok"}
            try:
                found = get(archive, root, shown)
                row |= {"status": "downloaded" if found.downloaded else "there", "sha256": found.sha256}
            except MlipbenchError as error:
                say(f"mlipbench: error: {error}")
                row |= {"status": "failed", "problem": str(error)}
                code = max(code, error.exit_code)
            rows.append(row)
    if json:
        emit_json(rows)
    else:
        emit(aligned(rows, ("dataset", "file", "status", "folder")))
    return int(code)


def _archives(names: list[str]) -> "list[tuple[DatasetEntry, Archive]]":
    """Return what the datasets, or the splits of them that are named, are published in.

    Raises:
        ConfigError: There is no such dataset or split.
        PrerequisiteError: Nobody says where it is published.
    """
    from mlipbench.datasets.entry import load_entry

    found: dict[tuple[str, str], tuple[DatasetEntry, Archive]] = {}
    for name in names:
        dataset, _, split = name.partition(":")
        entry = load_entry(dataset)
        if split:
            entry.split(split)
        wanted = [archive for archive in entry.sources if not split or archive.serves(split)]
        if not wanted:
            remedy = "it comes with the package" if entry.root == "package" else f"its page: {entry.url}"
            raise PrerequisiteError("there is nothing to download", where=f"dataset {name}", remedy=remedy)
        found |= {(entry.name, archive.file): (entry, archive) for archive in wanted}
    return list(found.values())


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
    """Read the files of datasets again, compare them with what was converted, and look for repeated structures."""
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
            row: dict[str, Any] = {"dataset": entry.name, "split": split, "structures": None, "status": "ok"}
            row["problem"] = None
            try:
                found = action(entry, split, location)
                row["structures"] = found.n_structures
                if isinstance(found, VerifyReport):
                    row["repeated"] = found.n_repeated
                    if found.problems:
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
        for row in rows:
            if row.get("repeated"):
                place = f"{row['dataset']}/{row['split']}"
                emit(f"{place}: {row['repeated']} of {row['structures']} structures stand there more than once")
    return int(code)
