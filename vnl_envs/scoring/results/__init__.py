"""Results: scores from episodes, and results side by side."""
