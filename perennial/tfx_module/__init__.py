"""Modules written for TFX: run_fn, and the served model made of what it saves."""
