"""What runs with the foreign policy: this folder is all of the package that it sees."""
