"""Rules that entries declare: names of files, and which of the structures in them make up a split."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, model_validator


class Closed(BaseModel):
    """A part of an entry: frozen, and without fields that are not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _inside(pattern: str) -> str:
    path = PurePosixPath(pattern)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in pattern:
        raise ValueError("must be a path below the root, with forward slashes and without '..'")
    return pattern


def _each_inside(pattern: str) -> str:
    for name in alternatives(pattern):
        _inside(name)
    return pattern


def alternatives(pattern: str) -> list[str]:
    """Return the patterns that stand for one set of files, the preferred one first; ``|`` is between them."""
    return [name.strip() for name in pattern.split("|")]


RelativePath = Annotated[str, AfterValidator(_inside)]
Patterns = Annotated[str, AfterValidator(_each_inside)]


class Indices(Closed):
    """A file with the numbers of a split's structures, one a line.

    Attributes:
        file: Path below the root; ``|`` is between alternatives.
        first: The number of the first structure, 0 or 1.
    """

    file: Patterns
    first: Literal[0, 1] = 0


class MdsimSplit(Closed):
    """A split as MDSim draws it, by two calls of scikit-learn's ``train_test_split`` with the seed 123.

    The first call takes the test structures, the second the validation structures among the first of the others.
    Source: Fu et al., TMLR 2023, code kyonofx/MDsim.

    Attributes:
        part: Which part it is.
        test: Number of test structures; or
        pool: Number of all others.
        size: Number of training and validation structures together, the first of the pool.
        val: Number of validation structures.
    """

    part: Literal["train", "val", "test"]
    test: PositiveInt | None = None
    pool: PositiveInt | None = None
    size: PositiveInt
    val: PositiveInt

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.test is None) == (self.pool is None):
            raise ValueError("give either test or pool")
        if self.val >= self.size or (self.pool is not None and self.size > self.pool):
            raise ValueError("val is less than size, and size at most pool")
        return self


class LeignnSplit(Closed):
    """A split as LEIGNN's code draws it: Python's shuffle, and four fifths of the first share of it to train on.

    Attributes:
        part: Which part it is.
        seed: Seed of the shuffle.
        share: Share of the structures that is used.
    """

    part: Literal["train", "val"]
    seed: int
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class LeignnMdSplit(Closed):
    """A split as LEIGNN's code draws those of its molecular dynamics, by scikit-learn with the seed 123.

    A fifth of the structures is for testing, a tenth of the others for validation.

    Attributes:
        part: Which part it is.
    """

    part: Literal["train", "val", "test"]
