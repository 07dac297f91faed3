"""Tools for testing adapters, for this project and for third parties."""
