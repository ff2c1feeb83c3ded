"""Names of what ingestion, checks and validation leave of a span, in a step's folder."""

# The rows that were set aside, one `SetAside` a line.
SET_ASIDE_FILE = "set_aside.jsonl"
DATA_DOCS = "data_docs"
# Validation's folders of all new spans: pages of their statistics, and their rows that were set
# aside.
STATISTICS = "statistics"
SET_ASIDE = "set_aside"
