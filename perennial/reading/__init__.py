"""Rows of files and tables, each with its place and, where it could not be read, the reason."""
