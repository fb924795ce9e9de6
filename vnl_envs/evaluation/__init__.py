"""Evaluation, recordings, videos and replays of policies."""
