"""The documents of the leaderboard: what they hold and how they are read."""
