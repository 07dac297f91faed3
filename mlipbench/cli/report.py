"""``mlipbench report``."""

from pathlib import Path
from typing import Annotated

import typer

from mlipbench.cli import options
from mlipbench.cli.output import complain, emit, emit_json, say
from mlipbench.errors import ExitCode, MlipbenchError, NothingSelectedError


def report(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATHS]...", help="Runs, or directories above runs.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Where to write; the first path if not given.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write the plots there as well, as SVG and PNG.")
    ] = None,
    results: options.ResultsOption = options.DEFAULT_RESULTS,
    json: options.JsonOption = False,
) -> int:
    """Write leaderboard.html, .md, .csv and .tex.

    Without PATHS they are made of the records and the published rows below the results directory, or, where there are
    no records, of its runs. What cannot be read is named and left out; the exit code is 3 then.
    """
    from mlipbench.cli.run import as_dict
    from mlipbench.comparison.collect import MANIFEST, collect
    from mlipbench.report.write import publish, write

    sources, home = _sources(results) if not paths else (paths, paths[0])
    problems: list[MlipbenchError] = []
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
    board = write(records, output or home, problems)
    more = publish(records, board, output or home, figures, problems)
    complain(problems)
    files = {"csv": str(board.csv), "markdown": str(board.markdown), "html": str(more.html), "latex": str(more.latex)}
    plots = [str(path) for path in more.figures]
    if json:
        content = {"leaderboard": files, "figures": plots, "runs": [as_dict(record) for record in records]}
        emit_json(content)
    else:
        emit("\n".join([*files.values(), *plots]))
    return int(ExitCode.TASKS_FAILED if problems else ExitCode.DONE)


def _sources(results: Path) -> tuple[list[Path], Path]:
    """Return what to read without PATHS, and where to write."""
    kept = [results / "records", results / "published"]
    if any(folder.is_dir() and any(folder.iterdir()) for folder in kept):
        return [folder for folder in kept if folder.is_dir()], results
    return [results / "runs"], results / "runs"
