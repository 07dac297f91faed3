"""The manifest of a run as it begins."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from mlipbench.environments import environment_facts
from mlipbench.plan.shards import n_shards
from mlipbench.status import Status
from mlipbench.store.provenance import git_state, hardware, package_versions
from mlipbench.store.records import (
    CellRecord,
    DatasetIdentity,
    EnvironmentRecord,
    Manifest,
    ModelIdentity,
    RouteRecord,
    SplitRecord,
    SuiteIdentity,
    VariantRecord,
)
from mlipbench.version import code_version

if TYPE_CHECKING:
    from mlipbench.plan import Plan, PlannedCell, PlannedSplit, RunPlan


def first_manifest(
    plan: Plan, run: RunPlan, run_id: str, started: str, arguments: tuple[str, ...], shards: int = 1
) -> Manifest:
    """Return the manifest of a run that is about to begin, its splits cut into so many shards."""
    suite = SuiteIdentity(
        name=plan.suite.suite, version=plan.suite.version, sha256=plan.suite_sha256, units=plan.suite.units
    )
    return Manifest(
        run_id=run_id,
        plan_sha256=run.sha256,
        status=Status.RUNNING,
        suite=suite,
        model=_model(run),
        variant=_variant(run),
        seed=run.seed,
        threads=run.threads,
        code_version=code_version(),
        started=started,
        arguments=list(arguments),
        shards=shards,
        datasets=_datasets(plan),
        splits=[planned_record(split).model_copy(update={"shards": n_shards(split, shards)}) for split in run.splits],
        routes=[
            RouteRecord(
                dataset=name,
                shift=None if route.shift is None else route.shift.value,
                fit=route.fit,
                corrections=[correction.value for correction in route.corrections],
                refusal=route.refusal,
            )
            for name, route in run.routes.items()
        ],
        cells=[_cell(cell) for cell in run.cells],
        packages={"parent": package_versions()},
        hardware={"parent": hardware()},
        git=git_state(),
        environment=_environment(run),
    )


def planned_record(split: PlannedSplit) -> SplitRecord:
    """Return the record of a split before anything of it is predicted."""
    return SplitRecord(
        task=split.task,
        dataset=split.dataset,
        split=split.split,
        role=split.role,
        status=Status.NOT_APPLICABLE if split.reason else Status.RUNNING,
        reason=split.reason,
        n_expected=split.n_structures,
        n_not_applicable=split.n_structures if split.reason else 0,
        selection=split.selection,
        relation=split.exposure.relation if split.exposure else None,
        n_in_training=split.exposure.n_trained if split.exposure else None,
        n_in_validation=split.exposure.n_validated if split.exposure else None,
        parameters=dict(split.request.parameters),
        places=None if split.places is None else split.places.tolist(),
    )


def _environment(run: RunPlan) -> EnvironmentRecord:
    facts = environment_facts(run.environment)
    return EnvironmentRecord(
        name=run.environment.name,
        how=run.environment.how.value,
        python=facts.python,
        lock_sha256=facts.lock_sha256,
        packages=dict(sorted(facts.packages.items())),
    )


def _model(run: RunPlan) -> ModelIdentity:
    card = run.card.model_dump(mode="json")
    text = json.dumps(card, sort_keys=True).encode()
    bound = {name: checkpoint for name, checkpoint in run.checkpoints.items() if checkpoint is not None}
    return ModelIdentity(
        name=run.model,
        card=card,
        card_sha256=hashlib.sha256(text).hexdigest(),
        checkpoints={name: checkpoint.model_dump(mode="json") for name, checkpoint in bound.items()},
        trusted_by_user=run.trusted,
    )


def _variant(run: RunPlan) -> VariantRecord:
    variant = run.variant
    return VariantRecord(
        name=variant.name,
        precision=variant.precision,
        device=variant.device,
        batch=variant.batch.model_dump(exclude_none=True) if variant.batch else {},
        settings=dict(variant.settings),
    )


def _datasets(plan: Plan) -> list[DatasetIdentity]:
    return [
        DatasetIdentity(
            name=name,
            title=dataset.entry.title,
            level_of_theory=dataset.entry.level_of_theory,
            energy_reference=dataset.entry.energy_reference.value,
            splits={split: data.content_hash for split, data in dataset.splits.items()},
            entry=dataset.entry.model_dump(mode="json"),
            note=dataset.entry.membership or None,
            references_sha256=dataset.references_sha256,
            factors_sha256=dataset.factors_sha256,
        )
        for name, dataset in plan.datasets.items()
    ]


def _cell(cell: PlannedCell) -> CellRecord:
    return CellRecord(
        task=cell.task,
        dataset=cell.dataset,
        split=cell.split,
        metric=cell.metric,
        status=cell.status,
        reason=cell.reason,
        conversion=cell.conversion,
        comparability_key=cell.comparability_key,
        relation=cell.relation,
        training=cell.training,
    )
