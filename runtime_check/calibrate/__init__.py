"""Calibration in PyTorch: what each matrix of a model is multiplied with on clips, one step of the model at a time."""
