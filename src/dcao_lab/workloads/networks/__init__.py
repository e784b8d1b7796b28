"""Networks that more than one workload uses, or that are longer than the rest of their workload."""
