"""`python -m medsal`: the command line."""

from medsal.cli import main

main()
