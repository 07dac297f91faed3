"""Engines carry out commands: on this machine, or wherever Parsl puts them."""

from mlipbench.execution.engines.engine import CommandEnd, Engine, EngineCommand

__all__ = ["CommandEnd", "Engine", "EngineCommand"]
