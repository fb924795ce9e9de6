"""Runs of a suite: processes, journal, verification."""
