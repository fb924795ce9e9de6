"""The forms of the leaderboard's documents."""
