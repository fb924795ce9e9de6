"""Scenes: the surroundings of a body."""
