"""Many runs at once: local processes or a Ray cluster, progress bars, and what came out."""
