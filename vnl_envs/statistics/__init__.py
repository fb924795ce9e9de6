"""Intervals and aggregates of samples; nothing here knows a task."""
