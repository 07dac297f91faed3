"""The embedded ``mini-ethanol`` data and the script that made them (see ``docs/datasets/mini-ethanol.md``)."""
