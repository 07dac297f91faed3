"""The embedded ``mini-lips`` data, their potential and their script (see ``docs/datasets/mini-lips.md``)."""
