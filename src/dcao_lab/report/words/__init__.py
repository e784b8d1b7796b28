"""The report's sentences, made from its numbers."""
