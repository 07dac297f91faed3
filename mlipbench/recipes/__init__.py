"""Recipes that ship with the package, and reading of recipe files."""

from mlipbench.recipes.catalogue import load_recipe, recipe_names, recipe_path

__all__ = ["load_recipe", "recipe_names", "recipe_path"]
