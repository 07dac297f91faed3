"""``mlipbench status``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mlipbench.cli import completion, options
from mlipbench.cli.output import aligned, emit, emit_json
from mlipbench.errors import ExitCode, NothingSelectedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.store.progress import SplitProgress

_COLUMNS: Final = ("model", "variant", "seed", "split", "shards", "begun", "structures", "failed", "status")
_HOUR: Final = 3600


def status(
    suite: Annotated[
        str | None,
        typer.Argument(
            metavar="SUITE", help="Name of a suite that was run; all if left out.", autocompletion=completion.suites
        ),
    ] = None,
    *,
    results: options.ResultsOption = options.DEFAULT_RESULTS,
    json: options.JsonOption = False,
) -> int:
    """Show how far runs are: shards and structures that are there, what failed, and what the rest will take.

    Only files are read, so that it works while others compute, from any machine that sees the results.
    """
    from mlipbench.store.progress import progress

    root = results / "runs" / suite if suite else results / "runs"
    found = list(progress(root))
    if not found:
        raise NothingSelectedError("there is no run", file=root, remedy="give --results the folder that runs are in")
    if json:
        emit_json([{**asdict(one), "run": str(one.run)} for one in found])
    else:
        emit(f"{aligned([_row(one) for one in found], _COLUMNS)}\n\n{_sum(found)}")
    return int(ExitCode.DONE)


def _row(one: "SplitProgress") -> dict[str, Any]:
    return {
        "model": one.model,
        "variant": one.variant,
        "seed": one.seed,
        "split": f"{one.dataset}/{one.split} ({one.task.value})",
        "shards": f"{one.shards_done}/{one.shards}",
        "begun": one.shards_begun,
        "structures": f"{one.structures_done}/{one.structures}",
        "failed": one.failed,
        "status": one.status.value.replace("_", " "),
    }


def _sum(found: "Sequence[SplitProgress]") -> str:
    shards = f"{sum(one.shards_done for one in found)} of {sum(one.shards for one in found)} shards"
    structures = f"{sum(one.structures_done for one in found)} of {sum(one.structures for one in found)} structures"
    left = [_left(one) for one in found if one.structures_done < one.structures]
    parts = [shards, structures]
    if left:
        known = [hours for hours in left if hours is not None]
        unknown = len(left) - len(known)
        parts.append(f"about {sum(known):.3g} hours of one worker left" if known else "time left not known yet")
        if known and unknown:
            parts.append(f"and {unknown} splits of which nothing is there to tell")
    return ", ".join(parts)


def _left(one: "SplitProgress") -> float | None:
    """Return the hours that the rest of a split takes one worker, at the pace of what is there; None if nothing is."""
    if not one.structures_done:
        return None
    return one.seconds * (one.structures - one.structures_done) / one.structures_done / _HOUR
