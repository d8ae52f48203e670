"""The tiny model and the sample data for experiments on a laptop, and the scripts that make both."""
