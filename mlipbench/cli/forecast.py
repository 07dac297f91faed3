"""What a plan takes and what it can find, as `mlipbench plan` says it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.comparison.forecast import Detectable, Pace
    from mlipbench.errors import MlipbenchError
    from mlipbench.plan import Plan, RunPlan


@dataclass(frozen=True, slots=True)
class Forecast:
    """What earlier runs say of a plan, and how it is cut.

    Attributes:
        plan: The plan.
        shards: Into how many shards splits are to be cut; None where nobody asked.
        paces: How fast the models were, by the identity of the planned run.
        found: Which differences the splits can find.
        problems: What is wrong with earlier runs.
    """

    plan: "Plan"
    shards: int | None
    paces: "dict[str, Pace]" = field(default_factory=dict)
    found: "tuple[Detectable, ...]" = ()
    problems: "tuple[MlipbenchError, ...]" = ()

    @classmethod
    def of(cls, plan: "Plan", results: Path, shards: int | None) -> "Forecast":
        """Read the runs below a folder of results, if there are any."""
        folder = results / "runs"
        if not folder.is_dir():
            return cls(plan, shards)
        from mlipbench.comparison.collect import collect
        from mlipbench.comparison.forecast import detectable, pace_of
        from mlipbench.comparison.scores import ScoreReader

        problems: list[MlipbenchError] = []
        records = collect([folder], problems)
        paces = {run.sha256: pace for run in plan.runs if (pace := pace_of(run, records)) is not None}
        found = tuple(detectable(plan, records, ScoreReader(problems)))
        return cls(plan, shards, paces, found, tuple(problems))

    def of_run(self, run: "RunPlan") -> "Iterator[tuple[str, str]]":
        """Yield heads and texts of what one run takes."""
        from mlipbench.environments.build import in_bytes
        from mlipbench.plan.shards import n_shards

        if kept := sum(split.prediction_bytes for split in run.splits):
            yield "disk", f"predictions of about {in_bytes(kept)}, meanwhile twice that"
        for split in run.splits:
            if split.trajectory_bytes:
                place, size = f"{split.dataset}/{split.split}", in_bytes(split.trajectory_bytes)
                yield "disk", f"{place}: trajectories of about {size}, meanwhile twice that"
        if self.shards is not None:
            cut = sum(n_shards(split, self.shards) for split in run.sharded)
            yield "shards", f"{cut} over {len(run.sharded)} splits, at most {self.shards} of one"
        if (hours := self._hours(run)) is not None:
            pace = self.paces[run.sha256]
            yield "device hours", f"about {hours:.2g}, from {pace.atoms_per_second:.3g} atoms/s in {pace.run}"

    def lines(self) -> "Iterator[str]":
        """Yield what the plan as a whole can find, and takes."""
        for one in self.found:
            share = _percent(one.least) if one.n_pairs == 1 else f"{_percent(one.least)} to {_percent(one.most)}"
            place = f"{one.dataset}/{one.split} {one.metric}"
            said = "pair of models that was run" if one.n_pairs == 1 else "pairs of models that were run"
            yield f"detectable: {place}: a difference of {share} (4 times of 5, by {one.n_pairs} {said})"
        known = [hours for run in self.plan.runs if (hours := self._hours(run)) is not None]
        if known:
            lacking = sum(bool(self._atoms(run)) for run in self.plan.runs) - len(known)
            rest = f", and {lacking} of which nobody has measured the costs" if lacking else ""
            yield f"device hours: about {sum(known):.2g} for {len(known)} of {len(self.plan.runs)} runs{rest}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "shards": self.shards,
            "device_hours": {run.sha256: hours for run in self.plan.runs if (hours := self._hours(run)) is not None},
            "detectable": [
                {name: getattr(one, name) for name in ("dataset", "split", "metric", "least", "most", "n_pairs")}
                for one in self.found
            ],
        }

    def _hours(self, run: "RunPlan") -> float | None:
        pace = self.paces.get(run.sha256)
        return None if pace is None or not self._atoms(run) else pace.hours(self._atoms(run))

    def _atoms(self, run: "RunPlan") -> int:
        """Return the atoms that are predicted once; steps of relaxations and simulations are not foreseen."""
        from mlipbench.status import Task

        return sum(split.n_atoms for split in run.splits if split.task is Task.S2EF and not split.reason)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"  # noqa: PLR2004 - two digits
