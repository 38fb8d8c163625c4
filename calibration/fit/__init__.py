"""Factors fitted to measurements, and the calibration file they are written to."""
