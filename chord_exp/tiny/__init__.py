"""The tiny model and the sample data that let a whole experiment run on a laptop, and the scripts that make both."""
