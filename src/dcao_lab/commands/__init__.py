"""The commands of ``dcao-lab``: what a person types, and what the terminal shows."""
