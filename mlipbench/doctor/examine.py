"""Making all checks of a model, whatever it does to its worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlipbench.conformance.catalogue import CHECKS
from mlipbench.conformance.result import CheckResult, failed
from mlipbench.errors import WorkerError
from mlipbench.execution.client import loaded_client
from mlipbench.execution.evaluate import Predictor
from mlipbench.execution.failures import WorkerLostError, as_error
from mlipbench.execution.requests import examine_message
from mlipbench.protocol import MessageKind
from mlipbench.status import CheckStatus
from mlipbench.store.diagnoses import CheckRecord, DiagnosisRecord

if TYPE_CHECKING:
    from mlipbench.doctor.patient import Patient
    from mlipbench.progress import Display


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and how long it took.

    Attributes:
        result: What it found.
        group: What the check belongs to.
        seconds: Wall time.
    """

    result: CheckResult
    group: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What all checks found.

    Attributes:
        model: Name of the card.
        network: Name of the network, where a checkpoint of one was examined by its folder; None for cards.
        dataset: The dataset whose checkpoint was loaded, or that it was fitted to; None where there is one model.
        device: What it ran on.
        dtype: Precision.
        findings: One for each check, in order.
        seconds: Wall time, loading included.
    """

    model: str
    network: str | None
    dataset: str | None
    device: str
    dtype: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """What is wrong."""
        return tuple(one.result for one in self.findings if one.result.status is CheckStatus.FAILED)

    def record(self) -> DiagnosisRecord:
        """Return all of it as it is kept in a file."""
        checks = [
            CheckRecord(**one.result.header(), group=one.group, seconds=round(one.seconds, 3)) for one in self.findings
        ]
        return DiagnosisRecord(
            model=self.model,
            network=self.network,
            dataset=self.dataset,
            device=self.device,
            dtype=self.dtype,
            seconds=round(self.seconds, 3),
            failed=len(self.failed),
            checks=checks,
        )


def _made(name: str, patient: Patient, ward: Predictor) -> CheckResult:
    """Return what one check found; a worker that it has ended is started again for the next one.

    Raises:
        MlipbenchError: The model cannot be loaded.
    """
    client = ward.client()
    try:
        reply = client.request(examine_message(name, patient.examination, patient.spec.threads))
    except WorkerLostError as error:
        ward.close()
        return failed(name, f"the process of the model was lost: {error.problem}",
                      "run the structures of this check one by one in a debugger")  # fmt: skip
    if reply.kind == MessageKind.FAILED:
        return failed(name, as_error(reply).problem, "this ended the check; mend it in the adapter")
    if reply.kind != MessageKind.EXAMINED:
        raise WorkerError(f"worker answered an examination with {reply.kind!r}")
    return CheckResult.of_header(reply.header)


def examine(patient: Patient, display: Display) -> Diagnosis:
    """Make all checks of a model.

    Raises:
        MlipbenchError: The model cannot be loaded.
    """
    begun = time.monotonic()
    findings = []
    display.begin(patient.name, len(CHECKS), "checks")
    with Predictor(lambda: loaded_client(patient.spec, patient.model)) as ward:
        for check in CHECKS.values():
            start = time.monotonic()
            result = _made(check.name, patient, ward)
            findings.append(Finding(result, check.group, time.monotonic() - start))
            display.advance(1, int(result.status is CheckStatus.FAILED))
    seconds = time.monotonic() - begun
    model = patient.model
    what = patient.name, patient.network, patient.dataset
    found = Diagnosis(*what, model.device, model.dtype, tuple(findings), seconds)
    display.end(patient.name, "failed" if found.failed else "ok")
    return found
