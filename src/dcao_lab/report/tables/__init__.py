"""The report's tables, every cell spelled."""
