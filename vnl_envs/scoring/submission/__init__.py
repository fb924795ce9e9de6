"""Bundles of policies: packing, reading and checking."""
