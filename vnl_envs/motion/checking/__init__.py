"""Whether a clip is one that its body can do."""
