"""Runs of a suite: workers, journal and verification."""
