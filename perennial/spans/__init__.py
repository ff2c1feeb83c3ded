"""Spans: how they are named and found, the window of a run, quarantine."""
