"""``mlipbench data``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mlipbench.cli import completion, options
from mlipbench.cli.output import aligned, emit, emit_json, say
from mlipbench.errors import DatasetError, ExitCode, MlipbenchError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.datasets.sources import Archive

T = TypeVar("T")
Row = dict[str, Any]

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
    with open_display(display) as shown:

        def fetched(archive: "Archive") -> Row:
            found = get(archive, root, shown)
            return {"status": "downloaded" if found.downloaded else "there", "sha256": found.sha256}

        jobs = [
            ({"dataset": entry.name, "file": archive.file, "folder": str(root / archive.folder)}, archive)
            for entry, archive in _archives(datasets)
        ]
        rows, code = _rows(jobs, fetched)
    return _shown(rows, code, ("dataset", "file", "status", "folder"), json=json)


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


def _each(names: list[str], data_root: Path | None, action: "Callable[..., Any]", *, json: bool) -> int:
    """Apply an action to every split."""
    from mlipbench.datasets.entry import load_entry
    from mlipbench.datasets.prepare import VerifyReport

    location = options.data_location(data_root)

    def done(place: "tuple[DatasetEntry, str]") -> Row:
        found = action(*place, location)
        row = {"structures": found.n_structures, "status": "ok"}
        if isinstance(found, VerifyReport):
            if found.problems:
                raise DatasetError("; ".join(found.problems))
            row["repeated"] = found.n_repeated
        return row

    jobs = [
        ({"dataset": entry.name, "split": split, "structures": None}, (entry, split))
        for entry in [load_entry(name) for name in names]
        for split in entry.splits
    ]
    rows, code = _rows(jobs, done)
    _shown(rows, code, ("dataset", "split", "structures", "status"), json=json)
    for row in rows:
        if row.get("repeated") and not json:
            place = f"{row['dataset']}/{row['split']}"
            emit(f"{place}: {row['repeated']} of {row['structures']} structures stand there more than once")
    return int(code)


def _rows(jobs: "Iterable[tuple[Row, T]]", action: "Callable[[T], Row]") -> tuple[list[Row], ExitCode]:
    """Complete each row by an action; one that fails does not keep the others from being tried."""
    rows: list[Row] = []
    code = ExitCode.DONE
    for row, subject in jobs:
        try:
            rows.append(row | {"problem": None} | action(subject))
        except MlipbenchError as error:
            say(f"mlipbench: error: {error}")
            rows.append(row | {"status": "failed", "problem": str(error)})
            code = max(code, error.exit_code)
    return rows, code


def _shown(rows: list[Row], code: ExitCode, columns: tuple[str, ...], *, json: bool) -> int:
    if json:
        emit_json(rows)
    else:
        emit(aligned(rows, columns))
    return int(code)
