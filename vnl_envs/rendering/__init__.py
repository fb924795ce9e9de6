"""Pictures and videos of a model, a state and a task's overlays."""
