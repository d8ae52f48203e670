"""Sweeps: many runs at once, as many as fit, none lost.

`trial` (what one is), `ledger` and `queue` (who may start), `scheduler` (the state machine) know neither Hydra nor Ray.
`local`, `ray_jobs` and `fake` are the places where trials run, `folder` is what a sweep leaves on disk, `worker` the
process of one trial, `drive` the loop that a launcher, a sweeper and `resume` share.
"""
