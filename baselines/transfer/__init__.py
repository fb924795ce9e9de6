"""Skills learnt by imitation, used again: the decoder of an intention network in other tasks."""
