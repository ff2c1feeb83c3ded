"""Every contract of the product: settings, records and artifact layouts. Imports nothing of the product."""
