"""Examples and their statistics: files of examples, distributions, merged statistics, the serving log, Beam."""
