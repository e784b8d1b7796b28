"""Data of the workloads, read from the forms in which people have it."""
