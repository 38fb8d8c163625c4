"""Inference engines: their calibrations, and what is particular to each."""
