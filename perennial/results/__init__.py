"""Results of steps in the root: kept by key, staged as folders, removed when they are old."""
