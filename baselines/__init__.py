"""Reference algorithms on the tasks, to be run from a checkout; see `docs/baselines.md`."""
