"""The sections of the page: a heading, how to read it, figures and tables; ``report/html`` makes them HTML."""
