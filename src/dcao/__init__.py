"""DCAO: measure the curvature of a loss while it trains, and keep the step size where stability theory says."""
