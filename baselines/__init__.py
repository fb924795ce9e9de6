"""Reference algorithms on the tasks; run from a checkout, see `docs/baselines.md`."""
