"""Metrics: functions of tensors that return records. Importing this package imports no torch."""
