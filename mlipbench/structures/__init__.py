"""Structures as columns: what both sides of the harness exchange."""

from mlipbench.structures.batch import StructureBatch, concatenate

__all__ = ["StructureBatch", "concatenate"]
