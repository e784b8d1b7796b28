"""One probe: from a batch of the training to a CurvatureEstimate, without a trace."""
