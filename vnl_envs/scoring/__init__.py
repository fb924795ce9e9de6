"""Scoring: run episodes, each once, and sum them up."""
