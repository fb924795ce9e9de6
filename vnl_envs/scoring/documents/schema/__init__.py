"""What the documents of the leaderboard hold."""
