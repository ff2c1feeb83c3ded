"""The model server: requests to answers, following the ledger."""
