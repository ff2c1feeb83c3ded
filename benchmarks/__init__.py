"""Measurements of promises and against peers.

Each prints a table and ends with code 1 when a target is missed.
"""
