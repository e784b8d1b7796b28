"""Looking at a run while it trains: its log is followed, thinned, and shown in a terminal or on a local page."""
