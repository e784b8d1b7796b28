"""Every figure, described once as plain data; ``report/html`` and ``report/paper`` draw it."""
