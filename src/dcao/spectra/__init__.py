"""Eigenvalues, trace and density of a curvature matrix, each with how far to trust it."""
