"""Every table, described once with every cell spelled; ``report/html`` and ``report/paper`` set it."""
