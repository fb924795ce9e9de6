"""Generator of the rat clips; `make_rodent_clips.py` has the table of motions."""
