"""Structures of several kinds and sizes, on which costs are measured, and the script that makes them."""
