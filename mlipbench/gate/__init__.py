"""Whether a model got worse: runs against a stored baseline, and times of two versions measured side by side.

Nothing here starts a run.
"""
