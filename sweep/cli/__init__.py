"""The command `llm-sweep`."""
