"""Adapters, one file a package; each imports its package only when a model is loaded."""
