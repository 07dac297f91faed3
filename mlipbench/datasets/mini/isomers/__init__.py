"""The embedded ``mini-isomers`` data and the script that made them (see ``docs/datasets/mini-isomers.md``)."""
