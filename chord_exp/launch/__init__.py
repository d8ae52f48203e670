"""Start one run in its own process, watch it, and tell the truth about how it ended."""
