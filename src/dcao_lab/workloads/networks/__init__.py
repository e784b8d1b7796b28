"""Networks that more than one workload uses."""
