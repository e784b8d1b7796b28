"""From one step to the next: when a probe is due, and what follows from it."""
