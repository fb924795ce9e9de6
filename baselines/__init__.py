"""Reference baselines, run from a checkout: `python -m baselines.<algorithm>`."""
