"""Evaluation: the table of predictions, metrics, bootstrap intervals, comparisons."""
