"""Networks of policies beside neurons that were recorded while an animal moved."""
