"""Work out what is said about runs: groups, scores, intervals, differences. Numbers only, no HTML."""
