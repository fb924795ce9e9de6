"""Checks of clips against the body, the ground and mechanics."""
