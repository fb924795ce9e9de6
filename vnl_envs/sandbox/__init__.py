"""Foreign policies run where they can do no harm."""
