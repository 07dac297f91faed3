"""The record of a run: directory, ledger, predictions, manifest and metrics."""
