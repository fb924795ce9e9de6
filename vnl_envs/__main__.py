"""`python -m vnl_envs`."""

from vnl_envs.cli.main import main

main()
