"""The HTTP server of `s2s serve`: models behind queues, answered in batches."""
