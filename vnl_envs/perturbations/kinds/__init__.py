"""The kinds of perturbation, one file each."""
