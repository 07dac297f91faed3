"""Checks of an adapter: pure functions over something that predicts.

They ask whether a model is wired up correctly, not how good it is: whether its results are complete and in order,
whether they have the symmetries that all energies have, whether they are in the units of the interface, and whether
calling it leaves the process as it was. `docs/reference/doctor.md` explains every check.
"""
