"""Isolation of untrusted policies."""
