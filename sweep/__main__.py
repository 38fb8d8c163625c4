"""`python -m sweep` is the command `llm-sweep`."""

from sweep.cli import main

main()
