"""Readers: rows from CSV, JSON Lines, Parquet and TFRecord files, converted by the schema."""
