"""Measured throughputs and latencies as tables of checked rows."""
