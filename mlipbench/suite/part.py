"""What all parts of a suite file have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_SEED = 2**32 - 1
Finite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class Part(BaseModel):
    """A part of a suite: frozen, and closed to names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
