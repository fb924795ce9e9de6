"""Bundles of policies: packed, read and checked."""
