"""Suites that are made of another one: what the paper's tables are to the suites of their datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, RootModel

from mlipbench.suite.part import Part
from mlipbench.suite.schema import NAME, DatasetChoice, EnergyUnit, Models, Profile, Seeds, Suite
from mlipbench.yamlfile import merged

if TYPE_CHECKING:
    from collections.abc import Mapping

EXTENDS: Final = "extends"
_OWN: Final = ("suite", "version", "description", "profiles")
"""What an extension does not take over."""


class Extension(Part):
    """A suite file that takes what it does not say itself from a shipped suite.

    Attributes:
        suite: Name of the suite.
        version: Version; it has to change whenever that of the extended suite does.
        extends: Name of a shipped suite that extends no other.
        description: One line for listings.
        models: Models in place of the other suite's.
        datasets: Datasets in place of the other suite's.
        tasks: Tasks, and parameters of tasks in place of the other suite's.
        units: Units of energy in place of the other suite's.
        seeds: Seeds in place of the other suite's.
        profiles: Other ways to run it, by name; the other suite's are not taken over.
    """

    suite: Annotated[str, Field(pattern=NAME)]
    version: Annotated[int, Field(ge=1)]
    extends: str
    description: str = ""
    models: Models | None = None
    datasets: dict[Annotated[str, Field(pattern=NAME)], DatasetChoice] | None = None
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    units: tuple[EnergyUnit, ...] | None = None
    seeds: Seeds | None = None
    profiles: dict[Annotated[str, Field(pattern=NAME)], Profile] = Field(default_factory=dict)


class SuiteFile(RootModel[Suite | Extension]):
    """What a suite file may hold: a suite, or what it has in place of another one's."""


def extended(base: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a suite that extends another one.

    Args:
        base: Content of the other suite.
        content: Content of the file that extends it.

    Returns:
        The fields of `content`, and of `base` where it has none; parameters of tasks one by one.
    """
    kept = {name: value for name, value in base.items() if name not in _OWN}
    own = {name: value for name, value in content.items() if name != EXTENDS}
    return kept | own | {"tasks": merged(dict(base.get("tasks", {})), own.get("tasks", {}))}
