"""Files and what becomes of them: local and remote files, atomic publication, digests, fingerprints, locks."""
