"""``mlipbench report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlipbench.cli import options
from mlipbench.cli.output import complain, emit, emit_json, say
from mlipbench.errors import ConfigError, ExitCode, MlipbenchError, NothingSelectedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.comparison.collect import RunRecord


def report(  # noqa: PLR0913, PLR0917 - options
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATHS]...", help="Runs, or directories above runs.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Where to write; the first path if not given.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write the plots there as well, as SVG and PNG.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Write the page of this model in place of the leaderboard, as HTML and Markdown.",
        ),
    ] = None,
    zoo: Annotated[
        bool, typer.Option("--zoo", help="Write zoo.md, a page of all models, in place of the leaderboard.")
    ] = False,
    results: options.ResultsOption = options.DEFAULT_RESULTS,
    json: options.JsonOption = False,
) -> int:
    """Write leaderboard.html, .md, .csv and .tex, or the page of one model or of all.

    Without PATHS they are made of the records and the published rows below the results directory, or, where there are
    no records, of its runs. What cannot be read is named and left out; the exit code is 3 then.
    """
    if zoo and model is not None:
        raise ConfigError("--model is of one model, --zoo of all", remedy="give one of them")
    problems: list[MlipbenchError] = []
    records, home = _collected(paths, results, problems)
    home = output or home
    if zoo:
        _write_zoo(records, results, home, problems, json=json)
    elif model is not None:
        _write_model(model, records, results, home, problems, json=json)
    else:
        _write_leaderboard(records, home, figures, problems, json=json)
    return int(ExitCode.TASKS_FAILED if problems else ExitCode.DONE)


def _collected(
    paths: list[Path] | None, results: Path, problems: list[MlipbenchError]
) -> tuple["Sequence[RunRecord]", Path]:
    """Return what can be read, and the folder to write to."""
    from mlipbench.comparison.collect import MANIFEST, collect

    sources, home = _sources(results) if not paths else (paths, paths[0])
    records = collect((source for source in sources if paths or source.is_dir()), problems)
    if not records:
        complain(problems)
        searched = ", ".join(str(source) for source in sources)
        raise NothingSelectedError("there is no finished run", file=searched, remedy="make one with `mlipbench run`")
    if home.is_file() or (home / MANIFEST).exists():
        home = home.parent
    published = sum(record.reference is not None for record in records)
    read = f"{len(records) - published} runs and {published} published rows"
    say(f"{read} from {', '.join(str(source) for source in sources)}")
    return records, home


def _write_leaderboard(
    records: "Sequence[RunRecord]", home: Path, figures: Path | None, problems: list[MlipbenchError], *, json: bool
) -> None:
    """Write the leaderboard and the plots."""
    from mlipbench.cli.run import as_dict
    from mlipbench.report.write import publish, write

    board = write(records, home, problems)
    more = publish(records, board, home, figures, problems)
    complain(problems)
    files = {"csv": str(board.csv), "markdown": str(board.markdown), "html": str(more.html), "latex": str(more.latex)}
    plots = [str(path) for path in more.figures]
    if json:
        content = {"leaderboard": files, "figures": plots, "runs": [as_dict(record) for record in records]}
        emit_json(content)
    else:
        emit("\n".join([*files.values(), *plots]))


def _write_model(
    model: str,
    records: "Sequence[RunRecord]",
    results: Path,
    directory: Path,
    problems: list[MlipbenchError],
    *,
    json: bool,
) -> None:
    """Write the page of one model."""
    from mlipbench.report.sheet.sheet import build_sheet
    from mlipbench.report.sheet.write import write_sheet
    from mlipbench.report.table import build_tables
    from mlipbench.store.diagnoses import read_diagnoses

    diagnoses = [found for found in read_diagnoses(results, problems) if found.is_of(model)]
    sheet = build_sheet(model, records, build_tables(records, problems), diagnoses)
    files = write_sheet(sheet, directory)
    complain(problems)
    if json:
        axes = {axis.name: {"passes": axis.passes, "found": axis.said} for axis in sheet.axes}
        emit_json({"model": model, "first_failing": sheet.first, "axes": axes, "files": list(map(str, files))})
    else:
        emit("\n".join(map(str, files)))


def _write_zoo(
    records: "Sequence[RunRecord]", results: Path, directory: Path, problems: list[MlipbenchError], *, json: bool
) -> None:
    """Write the page of all models."""
    from mlipbench.environments.families import family_package
    from mlipbench.models.registry import card_names, load_card
    from mlipbench.report.sheet.zoo import to_markdown
    from mlipbench.store.diagnoses import read_diagnoses
    from mlipbench.store.files import write_atomically

    cards = [load_card(name) for name in card_names()]
    found = {card.environment: family_package(card.environment) for card in cards}
    packages = {name: package for name, package in found.items() if package is not None}
    diagnoses = list(read_diagnoses(results, problems))
    path = directory / "zoo.md"
    write_atomically(path, to_markdown(cards, packages, records, diagnoses).encode())
    complain(problems)
    if json:
        emit_json({"files": [str(path)]})
    else:
        emit(str(path))


def _sources(results: Path) -> tuple[list[Path], Path]:
    """Return what to read without PATHS, and where to write."""
    kept = [results / "records", results / "published"]
    if any(folder.is_dir() and any(folder.iterdir()) for folder in kept):
        return [folder for folder in kept if folder.is_dir()], results
    return [results / "runs"], results / "runs"
