"""Throughput of environments, and agreement of engines."""
