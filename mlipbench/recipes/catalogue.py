"""Where recipes are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlipbench.errors import ConfigError

if TYPE_CHECKING:
    from mlipbench.recipe import Recipe


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes, sorted; lists files only."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def load_recipe(name_or_path: str | Path, base: Path | None = None) -> Recipe:
    """Return a shipped recipe by name, or the recipe in a YAML file.

    Args:
        name_or_path: A name from `recipe_names`, or a path (something that ends in ``.yaml`` or ``.yml``).
        base: Folder that a relative path starts from; the working directory where it is None.

    Raises:
        ConfigError: The name is unknown or the file is not a valid recipe.
        PrerequisiteError: The file cannot be read.
    """
    from mlipbench.recipe import Recipe
    from mlipbench.yamlfile import read_yaml, validate

    text = str(name_or_path)
    path = (base or Path()) / text if text.endswith((".yaml", ".yml")) else recipe_path(text)
    return validate(Recipe, read_yaml(path), path)


def recipe_path(name: str) -> Path:
    """Return the file of a shipped recipe.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in recipe_names():
        from mlipbench.yamlfile import did_you_mean

        raise ConfigError(f"unknown recipe {name!r}", remedy=did_you_mean(name, recipe_names()))
    return Path(__file__).parent / f"{name}.yaml"
