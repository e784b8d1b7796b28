"""What goes wrong for long, and how the caller is told: once, with its cause and what helps."""
