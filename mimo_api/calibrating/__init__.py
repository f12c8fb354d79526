"""Collect the sums of a calibration on the workers of a cluster."""
