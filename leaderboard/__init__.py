"""The leaderboard: its suites, anchors, entries and site."""
