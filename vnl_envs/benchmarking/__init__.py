"""Throughput of the environments, agreement of the engines."""
