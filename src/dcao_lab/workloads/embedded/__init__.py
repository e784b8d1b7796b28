"""Workloads whose data comes with a package: they run anywhere, in minutes on a CPU."""
