"""What every check of a theorem shares: a claim is true as it stands, and false once its constant is made too good."""

TOO_GOOD = 1.05
"""Factor by which a check makes the constant of a theorem better than it is, and then has to fail."""
