"""Examples and their statistics.

Files of examples, distributions, merged statistics, the serving log, Beam.
"""
