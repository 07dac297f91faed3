"""Finished runs read back, and two of them set against each other."""
