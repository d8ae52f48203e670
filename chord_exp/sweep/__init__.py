"""Sweeps: many runs at once, as many as fit, none lost.

`scheduling`: what a trial is, who may start, the state machine; it knows neither Hydra nor Ray. `backends`: where
trials run, and the process of one. `folder`: what a sweep leaves on disk. `run_loop`: scheduling with a table and
Ctrl-C, for `run`, tuning and `resume`. `progress` and `show`: the table. `command`, `trials` and `tune`: from a command
line, or a study's points, to trials.
"""
