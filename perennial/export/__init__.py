"""Served models: the SavedModel, its contract, its calibration."""
