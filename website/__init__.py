"""The site: documentation, gallery and leaderboard as one folder of static pages."""
