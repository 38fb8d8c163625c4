"""Predictions of measurements that a fit has not seen, and intervals from their errors."""
