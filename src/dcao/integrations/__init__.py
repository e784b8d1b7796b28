"""DCAO in trainers that own the loop: one module for each, which imports that trainer; see ``docs/trainers.md``."""
