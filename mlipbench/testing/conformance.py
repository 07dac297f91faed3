"""The checks of `mlipbench doctor` as tests of one's own adapter, one for each check.

In a test file, for a card by name or by path::

    from mlipbench.testing.conformance import ConformanceSuite


    class TestMyModel(ConformanceSuite):
        card = "my-model"

The adapter is loaded into the process of the tests, so that its package must be installed there; what it raises is
shown with its traceback. What the card declares as missing is skipped.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from mlipbench.cachedir import default_cache
from mlipbench.conformance.catalogue import CHECKS, make_check
from mlipbench.conformance.subject import CALLS, Subject
from mlipbench.datasets.prepare import DataLocation
from mlipbench.doctor.patient import Choice, find_patient
from mlipbench.execution.client import WorkerSpec
from mlipbench.models.interface import Adapter, LoadRequest
from mlipbench.models.registry import load_card
from mlipbench.status import CheckStatus

if TYPE_CHECKING:
    from mlipbench.execution.requests import LoadModel


class ConformanceSuite:
    """Tests of one model; a subclass whose name begins with ``Test`` names it.

    A subclass may override the fixture `subject`, for instance to check an adapter that has no card yet.

    Attributes:
        card: Name of a card, path of its file, or folder of a checkpoint.
        dataset: The dataset whose checkpoint is loaded, or that a fitted model is fitted to; None as in `doctor`.
        device: Device in place of the card's first.
        calls: Calls over which memory is watched.
    """

    card: ClassVar[str | Path]
    dataset: ClassVar[str | None] = None
    device: ClassVar[str | None] = None
    calls: ClassVar[int] = CALLS

    @pytest.fixture
    def subject(self) -> Subject:
        """Return the model, which is loaded once."""
        return load_subject(self.card, self.dataset, self.device, self.calls)

    @pytest.mark.parametrize("check", list(CHECKS))
    def test_conformance(self, subject: Subject, check: str) -> None:
        """Make one check."""
        result = make_check(check, subject)
        if result.status is CheckStatus.FAILED:
            found = f"{CHECKS[check].title}\nwrong: {result.problem}\nmend: {result.remedy}"
            pytest.fail(found, pytrace=False)
        if result.status is not CheckStatus.PASSED:
            pytest.skip(f"{result.status.replace('_', ' ')}: {result.note}")


@cache
def load_subject(
    card: str | Path, dataset: str | None = None, device: str | None = None, calls: int = CALLS
) -> Subject:
    """Return a model loaded into this process, with what it is checked with.

    Args:
        card: Name of a card, path of its file, or folder of a checkpoint.
        dataset: The dataset whose checkpoint is loaded, or that a fitted model is fitted to.
        device: Device in place of the card's first.
        calls: Calls over which memory is watched.

    Raises:
        MlipbenchError: The card is invalid, or the model cannot be loaded.
    """
    spec = WorkerSpec(python=Path(sys.executable), log=Path(os.devnull))
    found = load_card(card, trust=True)  # whoever runs a test file trusts what it names
    patient = find_patient(found, Choice(dataset, device), lambda: spec, DataLocation(None, default_cache()))
    return Subject(
        adapter=_loaded(patient.model),
        capabilities=patient.examination.capabilities,
        samples=patient.examination.samples,
        dtype=patient.model.dtype,
        references=patient.examination.references,
        calls=calls,
    )


def _loaded(model: LoadModel) -> Adapter:
    """Load an adapter into this process."""
    module, _, name = model.adapter.partition(":")
    adapter: type[Adapter] = getattr(importlib.import_module(module), name)
    return adapter.load(
        LoadRequest(
            device=model.device,
            dtype=model.dtype,
            checkpoint=model.checkpoint,
            sha256=model.sha256,
            kwargs=model.kwargs,
            parameters=model.parameters,
            seed=model.seed,
        )
    )
