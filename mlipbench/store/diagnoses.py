"""What ``mlipbench doctor --json`` says, kept as a file beside records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.errors import MlipbenchError
from mlipbench.status import CheckStatus  # noqa: TC001 - pydantic needs it
from mlipbench.store.records import Record, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = "doctor"
"""Name of the folder below the results directory."""


class CheckRecord(Record):
    """One check; `mlipbench.conformance.result.CheckResult` explains the fields."""

    check: str
    group: str
    status: CheckStatus
    value: float | None = None
    unit: str = ""
    tolerance: float | None = None
    note: str | None = None
    problem: str | None = None
    remedy: str | None = None
    seconds: float


class DiagnosisRecord(Record):
    """All checks of one model.

    Attributes:
        model: Name of the card.
        network: Name of the network, where a checkpoint of one was examined by its folder; None for cards.
        dataset: The dataset whose checkpoint was loaded, or that it was fitted to; None where there is one model.
        device: What it ran on.
        dtype: Precision.
        seconds: Wall time.
        failed: Number of checks that failed.
        checks: The checks in order.
    """

    model: str
    network: str | None
    dataset: str | None
    device: str
    dtype: str
    seconds: float
    failed: int
    checks: list[CheckRecord]

    def is_of(self, model: str) -> bool:
        """Return whether a model was examined, or a checkpoint of the network of its name."""
        return model in {self.model, self.network}


def read_diagnoses(results: Path, problems: list[MlipbenchError]) -> Iterator[DiagnosisRecord]:
    """Yield what doctor found, from all JSON files of the folder ``doctor``.

    Args:
        results: The results directory.
        problems: Takes what is wrong with files, which are left out then.
    """
    for path in sorted((results / FOLDER).glob("*.json")):
        try:
            found = read_record(path, DiagnosisRecord, "make it anew with `mlipbench doctor MODEL --json`")
        except MlipbenchError as error:
            problems.append(error)
            continue
        yield found
