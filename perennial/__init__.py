"""Perennial: continuous training, from landed labels to a served model."""

__version__ = "0.1.0"
