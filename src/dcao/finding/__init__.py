"""A learning rate for a bare optimizer, from a short rise that leaves no trace."""
