"""Environments: isolated Python installations, one for each family of models."""

from mlipbench.environments.lookup import Environment, environment_names, find_environment

__all__ = ["Environment", "environment_names", "find_environment"]
