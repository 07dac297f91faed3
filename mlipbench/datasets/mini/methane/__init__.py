"""The embedded ``mini-methane`` data, their potential and their script (see ``docs/datasets/mini-methane.md``)."""
