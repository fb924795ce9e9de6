"""Reuse of skills learnt by imitation: the decoder of an intention network in other tasks."""
