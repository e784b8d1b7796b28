"""What each optimizer makes of a gradient, and where that stops being stable."""
