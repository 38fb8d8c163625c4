"""`python -m sweep` is the command `llm-sweep`."""

from sweep.cli.main import main

main()
