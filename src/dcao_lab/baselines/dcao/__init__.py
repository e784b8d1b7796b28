"""DCAO as an arm of a comparison. The only place where the lab builds a ``dcao.DCAO`` that steers."""
