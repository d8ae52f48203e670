"""Look at runs and sweeps, go on with them, end them, remove them: one command line for both.

find     which folder a word means; what lies below a folder
single   one run: of this machine, or a job of a Ray cluster
sweeps   a sweep with all its trials
listing  the table of everything
"""
