"""Intervals and aggregates of samples, independent of tasks."""
