"""The experiments of DCAO."""
