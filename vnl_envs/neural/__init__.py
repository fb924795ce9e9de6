"""Comparison of policies' networks with neurons that were recorded while an animal moved."""
