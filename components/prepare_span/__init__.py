"""Room of the step prepare_span."""
