"""The leaderboard: tables, reports and pages."""
