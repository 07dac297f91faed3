"""Environments: isolated Python installations, one for each family of models."""

from mlipbench.environments.families import environment_names
from mlipbench.environments.lookup import Environment, EnvironmentFacts, Environments, Provision, environment_facts

__all__ = [
    "Environment",
    "EnvironmentFacts",
    "Environments",
    "Provision",
    "environment_facts",
    "environment_names",
]
