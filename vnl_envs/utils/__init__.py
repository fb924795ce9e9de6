"""Small helpers for all modules."""
