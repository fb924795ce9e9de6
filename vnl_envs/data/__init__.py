"""Clips, standing poses, suites and anchors."""
