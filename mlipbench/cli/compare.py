"""``mlipbench compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlipbench.cli import options
from mlipbench.cli.output import emit, emit_json
from mlipbench.errors import ConfigError, ExitCode, NothingSelectedError

if TYPE_CHECKING:
    from mlipbench.report.collect import RunRecord


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="A B...", help="Runs, or directories above one run each.")],
    worst: Annotated[
        int,
        typer.Option("--worst", metavar="N", min=0, help="Structures with the largest change of each kind of error."),
    ] = 5,
    json: options.JsonOption = False,
) -> int:
    """Compare runs with the first one, metric by metric, on the structures that both have.

    Verdicts are corrected for the number of metrics and splits (Holm, 5 %); intervals (95 %) are not.
    """
    from mlipbench.report.comparing import compare as compared
    from mlipbench.report.comparison import as_dict, to_text
    from mlipbench.report.ranking import ScoreReader

    baseline, *others = _read(runs)
    scores = ScoreReader()
    comparisons = [compared(baseline, other, scores, worst) for other in others]
    if json:
        emit_json(as_dict(comparisons))
    else:
        emit("\n\n\n".join(to_text(comparison) for comparison in comparisons))
    if not any(comparison.compared for comparison in comparisons):
        raise NothingSelectedError(
            "no number of one run can be compared with one of another",
            file=", ".join(map(str, runs)),
            remedy="the reasons stand in the result",
        )
    return int(ExitCode.DONE)


def _read(paths: list[Path]) -> "list[RunRecord]":
    """Read the runs.

    Raises:
        ConfigError: There are fewer than two, or two are one.
        ResultsError: A path is no run, or a file is damaged.
    """
    from mlipbench.report.collect import single_run

    if len(paths) < 2:  # noqa: PLR2004 - what is compared with, and what is compared
        raise ConfigError("one run alone cannot be compared", where="compare", remedy="name two runs or more")
    found = [single_run(path) for path in paths]
    seen: dict[Path, Path] = {}
    for path, run in zip(paths, found, strict=True):
        place = (run.directory or path).resolve()
        if place in seen:
            raise ConfigError(f"is the run that {seen[place]} is", file=path, remedy="name each run once")
        seen[place] = path
    return found
