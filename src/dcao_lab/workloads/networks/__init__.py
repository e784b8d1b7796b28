"""Networks that several workloads share."""
