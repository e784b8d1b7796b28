"""The report of a study: what its runs say, as a page (``report/html``) and as files for a paper (``report/paper``).

Nothing is imported here: plotly and matplotlib take a second each, and a command that spells a number needs neither.
"""
