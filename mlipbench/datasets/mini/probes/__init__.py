"""Structures that physics is probed on: of the elements of mini-slabs, and of all elements."""
