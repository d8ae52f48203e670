"""Sweeps: many runs at once, as many as fit, none lost.

`scheduling`: what a trial is, who may start, the state machine; it knows neither Hydra nor Ray. `backends`: where
trials run, and the process of one. `folder`: what a sweep leaves on disk. `run_loop`: scheduling with a table and
Ctrl-C, for launcher, sweeper and `resume`. `progress` and `show`: the table. `hydra_launcher` and `tune` make trials of
Hydra's overrides and of a study's points.
"""
