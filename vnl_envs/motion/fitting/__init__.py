"""Recordings of other skeletons and markers fitted to a body."""
