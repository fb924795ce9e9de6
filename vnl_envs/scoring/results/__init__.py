"""Results: scores from episodes, and comparisons of results."""
