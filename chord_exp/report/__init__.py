"""Reports of runs: what they did, how they ended and how they compare, as one HTML file, Markdown and CSV."""
