"""Reports of benchmarking tools, read as rows of measurements."""
