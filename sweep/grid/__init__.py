"""The axes of a sweep, the grid they span, and its results as labelled datasets."""
