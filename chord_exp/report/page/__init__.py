"""Write what was worked out: charts, the HTML page, Markdown and CSV."""
