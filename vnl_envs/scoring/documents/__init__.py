"""The documents of the leaderboard: their forms, and how they are read."""
