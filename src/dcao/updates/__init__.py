"""How each optimizer turns a gradient into a step, and at which curvature that stops being stable."""
