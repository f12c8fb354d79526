"""Calibration on a trained speech model: the KL divergence of each method at equal size, on speech held out."""
