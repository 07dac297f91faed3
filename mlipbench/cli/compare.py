"""``mlipbench compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlipbench.cli import options
from mlipbench.cli.output import complain, emit, emit_json
from mlipbench.errors import ConfigError, ExitCode, MlipbenchError, NothingSelectedError, ResultsError

if TYPE_CHECKING:
    from mlipbench.comparison.collect import RunRecord


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="A B...", help="Runs, or directories above one run each.")],
    worst: Annotated[
        int,
        typer.Option("--worst", metavar="N", min=0, help="Structures with the largest change of each kind of error."),
    ] = 5,
    json: options.JsonOption = False,
) -> int:
    """Compare runs with the first one, metric by metric, on the structures that both have.

    Verdicts are corrected for the number of metrics and splits (Holm, 5 %); intervals (95 %) are not. What cannot be
    read is named and left out; the exit code is 3 then.
    """
    from mlipbench.comparison.comparing import compare as compared
    from mlipbench.comparison.scores import ScoreReader
    from mlipbench.report.compared import as_dict, to_text

    problems: list[MlipbenchError] = []
    baseline, *others = _read(runs, problems)
    scores = ScoreReader(problems)
    comparisons = [compared(baseline, other, scores, worst) for other in others]
    if json:
        emit_json(as_dict(comparisons))
    else:
        emit("\n\n\n".join(to_text(comparison) for comparison in comparisons))
    complain(problems)
    if not any(comparison.compared for comparison in comparisons):
        raise NothingSelectedError(
            "no number of one run can be compared with one of another",
            file=", ".join(map(str, runs)),
            remedy="the reasons stand in the result",
        )
    return int(ExitCode.TASKS_FAILED if problems else ExitCode.DONE)


def _read(paths: list[Path], problems: "list[MlipbenchError]") -> "list[RunRecord]":
    """Read the runs that can be read.

    Args:
        paths: Where they are; the first is what the others are compared with.
        problems: Takes what is wrong with some of the others.

    Raises:
        ConfigError: There are fewer than two, or two are one.
        ResultsError: A path is no run, or a file is damaged, of the first run or of all others.
    """
    from mlipbench.comparison.collect import single_run

    if len(paths) < 2:  # noqa: PLR2004 - what is compared with, and what is compared
        raise ConfigError("one run alone cannot be compared", where="compare", remedy="name two runs or more")
    found = [single_run(paths[0])]
    for path in paths[1:]:
        try:
            run = single_run(path)
        except ResultsError as error:
            problems.append(error)
            continue
        twin = next((one for one in found if one.run_id == run.run_id), None)
        if twin is None:
            found.append(run)
        elif _place(run) == _place(twin):
            raise ConfigError(f"is the run that {twin.directory} is", file=path, remedy="name each run once")
        else:
            problem = f"has the id of the run in {twin.directory}"
            problems.append(ResultsError(problem, file=run.directory, where="run_id", remedy="name each run once"))
    if len(found) == 1:
        raise problems[0]
    return found


def _place(run: "RunRecord") -> Path | None:
    return None if run.directory is None else run.directory.resolve()
