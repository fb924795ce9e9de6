"""Rat motion made by rule: gaits, turns, rears, pauses and what leads from one to the next.

`motion` says what a rat does, `journey` strings such motions together, `draw` draws them at random;
`poses` finds the joints. `data generate` writes clip files; the embedded clips are a table of such
motions (`assets/make_rodent_clips.py`).
"""
