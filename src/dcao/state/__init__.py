"""What a loss function reaches and an evaluation may change: found, copied, put back."""
