"""Workloads whose data comes with an installed package; they run without a network, in minutes on a CPU."""
