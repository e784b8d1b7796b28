"""The numbers that a study's report is about, computed from its runs; words, tables and figures only repeat them."""
