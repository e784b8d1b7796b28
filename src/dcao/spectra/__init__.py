"""Eigenvalues, trace and density of a curvature matrix, each with what says how far to trust it."""
