"""Run a policy through episodes, each once; record it, watch it."""
