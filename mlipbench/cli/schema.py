"""``mlipbench schema``."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

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
    MANIFEST = "manifest"
    METRICS = "metrics"


def schema(
    kind: Annotated[Kind, typer.Argument(metavar="suite|card|dataset|manifest|metrics", help="Which file.")],
) -> int:
    """Print the JSON Schema of a file that mlipbench reads or writes."""
    emit_json(_model(kind).model_json_schema())
    return int(ExitCode.DONE)


def _model(kind: Kind) -> "type[BaseModel]":
    if kind is Kind.SUITE:
        from mlipbench.suite.schema import Suite

        return Suite
    if kind is Kind.CARD:
        from mlipbench.models.card import ModelCard

        return ModelCard
    if kind is Kind.DATASET:
        from mlipbench.datasets.entry import DatasetEntry

        return DatasetEntry
    from mlipbench.store.records import Manifest, MetricsFile

    return Manifest if kind is Kind.MANIFEST else MetricsFile
