"""Engines advance the physics; they know models and states, never tasks."""
