"""The leaderboard: tables, reports, pages."""
