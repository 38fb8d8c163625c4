"""Fits efficiency factors to measured throughputs, so that the sweep predicts real ones."""
