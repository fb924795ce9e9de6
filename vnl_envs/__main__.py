"""`python -m vnl_envs`."""

from vnl_envs.cli import main

main()
