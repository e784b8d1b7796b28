"""What keeps a run alive: steps on garbage are skipped, and a run that blew up goes back."""
