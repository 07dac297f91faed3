"""The Parquet file of scores."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.store.files import replacing
from mlipbench.store.predictions import State

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.scoring.split import SplitScores


def write_scores(path: Path, scores: SplitScores) -> None:
    """Write one row per structure: name, cluster, whether there is a prediction, and the error sums.

    Raises:
        MlipbenchError: The disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = len(scores.state)
    columns: dict[str, pa.Array] = {
        "index": pa.array(np.arange(size)),
        "id": pa.array(scores.ids.astype(object), pa.string()),
        "cluster": pa.array(np.asarray(scores.clusters, dtype=np.int64)),
        "ok": pa.array(scores.state == State.OK),
        "energy_applicable": pa.array(scores.energy_applicable),
    }
    for field in fields(scores.errors):
        column = getattr(scores.errors, field.name)
        if column is None:
            columns[field.name] = pa.nulls(size, pa.float64())
        elif column.dtype.kind == "f":
            columns[field.name] = pa.array(column, mask=np.isnan(column))
        else:
            columns[field.name] = pa.array(column)
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")
