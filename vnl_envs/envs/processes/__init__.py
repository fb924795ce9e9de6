"""A vector environment over several processes."""
