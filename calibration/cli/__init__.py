"""The command `llm-calibrate`."""
