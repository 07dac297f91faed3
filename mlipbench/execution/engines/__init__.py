"""Engines carry out commands: on this machine, or wherever Parsl puts them."""

from mlipbench.execution.engines.engine import JOB_END, CommandEnd, Engine, EngineCommand

__all__ = ["JOB_END", "CommandEnd", "Engine", "EngineCommand"]
