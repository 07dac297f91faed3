"""The batch budget: how much goes into one forward pass."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator


class BatchBudget(BaseModel):
    """The largest content of one batch; exactly one limit is set.

    A structure above the limit is a batch of its own.

    Attributes:
        atoms: Most atoms.
        edges: Most directed neighbours within the model's cutoff, estimated from the density.
        structures: Most structures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    atoms: PositiveInt | None = None
    edges: PositiveInt | None = None
    structures: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if sum(limit is not None for limit in (self.atoms, self.edges, self.structures)) != 1:
            raise ValueError("a batch budget is one of atoms, edges and structures")
        return self
