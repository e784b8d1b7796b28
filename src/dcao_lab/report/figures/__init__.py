"""The report's figures, as plotly's JSON. Colours of text and grid belong to the page, light or dark."""
