"""Metrics as pure functions: arrays in, `MetricValue` out."""
