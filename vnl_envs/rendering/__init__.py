"""Pictures and videos of states, with a task's overlays."""
