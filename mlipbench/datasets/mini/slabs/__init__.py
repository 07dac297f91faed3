"""The embedded ``mini-slabs`` data and the script that made them (see ``docs/datasets/mini-slabs.md``)."""
