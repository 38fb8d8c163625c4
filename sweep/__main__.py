"""The command `llm-sweep`, and `python -m sweep`."""

from sweep.runs.huge_pages import restart_with_huge_pages


def command() -> None:
    """Run the command line in a process with huge pages."""
    restart_with_huge_pages()
    from sweep.cli.main import main
    from sweep.cli.own_process import runs_only

    runs_only("llm-sweep")
    main()


if __name__ == "__main__":
    command()
