"""The run report: one page of HTML."""
