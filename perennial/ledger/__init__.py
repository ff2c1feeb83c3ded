"""The ledger: the append-only record of spans, runs, decisions and deployments."""
