"""Interactive 3-D replays of episodes and clips for a browser."""
