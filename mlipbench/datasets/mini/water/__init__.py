"""The embedded ``mini-water`` data, their potential and their script (see ``docs/datasets/mini-water.md``)."""
