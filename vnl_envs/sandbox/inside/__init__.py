"""Code that runs with an untrusted policy, the only part of the package that it can see."""
