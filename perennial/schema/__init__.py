"""Schemas: inference, difference, proposal, text and description."""
