"""Runs to memory and to disk: shards, resume, Dask, checks of what was written."""
