"""Every contract of the product: settings, records and artifact layouts.

Imports nothing of the product but `perennial.storage.atomic`, by which records write their files.
"""
