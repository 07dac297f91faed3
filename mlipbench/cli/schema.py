"""``mlipbench schema``."""

import importlib
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mlipbench.cli.output import emit_json
from mlipbench.errors import ExitCode

if TYPE_CHECKING:
    from pydantic import BaseModel


class Kind(StrEnum):
    """Files with a schema."""

    SUITE = "suite"
    CARD = "card"
    DATASET = "dataset"
    RECIPE = "recipe"
    CHECKPOINT = "checkpoint"
    CONFIGURATION = "configuration"
    MANIFEST = "manifest"
    METRICS = "metrics"
    POLICY = "policy"


_MODELS: Final = {
    Kind.SUITE: ("mlipbench.suite.extension", "SuiteFile"),
    Kind.CARD: ("mlipbench.models.card", "ModelCard"),
    Kind.DATASET: ("mlipbench.datasets.entry", "DatasetEntry"),
    Kind.RECIPE: ("mlipbench.recipe", "Recipe"),
    Kind.CHECKPOINT: ("mlipbench.checkpoint", "CheckpointRecord"),
    Kind.CONFIGURATION: ("mlipbench.environments.configuration", "UserConfiguration"),
    Kind.MANIFEST: ("mlipbench.store.records", "Manifest"),
    Kind.METRICS: ("mlipbench.store.records", "MetricsFile"),
    Kind.POLICY: ("mlipbench.gate.policy", "PolicyFile"),
}


def schema(kind: Annotated[Kind, typer.Argument(metavar="|".join(Kind), help="Which file.")]) -> int:
    """Print the JSON Schema of a file that mlipbench reads or writes."""
    module, name = _MODELS[kind]
    model: type[BaseModel] = getattr(importlib.import_module(module), name)
    emit_json(model.model_json_schema())
    return int(ExitCode.DONE)
