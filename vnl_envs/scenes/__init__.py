"""What surrounds a body."""
