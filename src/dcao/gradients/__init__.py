"""What becomes of the gradient between a backward pass and the step."""
