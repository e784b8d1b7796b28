"""What several tests share: cases as data, slow twins to compare with, small studies and files."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
"""The folder of all tests: a script here is run as a module from it, ``python -m helpers.NAME``."""
