"""Files: local and remote ones, atomic publication, digests, fingerprints, locks."""
