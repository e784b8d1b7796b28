"""The report's sections: a heading, how to read it, figures and tables."""
