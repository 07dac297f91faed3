"""A suite in one of its profiles, such as a quick one for first contact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.errors import ConfigError
from mlipbench.suite.tasks import Tasks
from mlipbench.yamlfile import did_you_mean, merged, validate

if TYPE_CHECKING:
    from mlipbench.suite.schema import Profile, Suite


def find_profile(suite: Suite, name: str) -> Profile:
    """Return a profile of a suite.

    Raises:
        ConfigError: It has none of that name; close ones are listed.
    """
    if name in suite.profiles:
        return suite.profiles[name]
    remedy = did_you_mean(name, suite.profiles) if suite.profiles else "leave out --profile"
    raise ConfigError(f"the suite {suite.suite} has no profile {name!r}", where="--profile", remedy=remedy)


def with_profile(suite: Suite, name: str, profile: Profile, title: str) -> Suite:
    """Return a suite with the tasks, models and seeds of a profile, under a name of its own.

    Args:
        suite: The suite, on the data that the profile asks for.
        name: Name of the profile.
        profile: The profile.
        title: Name of the suite as its file has it.

    Raises:
        ConfigError: The parameters do not fit together.
    """
    content = merged(suite.tasks.model_dump(mode="json", exclude_none=True), profile.tasks)
    tasks = validate(Tasks, content, f"suite {title}, profiles.{name}.tasks")
    own = {field: value for field in ("models", "seeds") if (value := getattr(profile, field)) is not None}
    update = {"suite": f"{title}-{name}", "tasks": tasks, "profiles": {}, **own}
    return suite.model_copy(update=update).in_folder(suite.folder)
