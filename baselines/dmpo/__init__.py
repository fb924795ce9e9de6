"""Distributional maximum a posteriori policy optimisation (DMPO)."""
