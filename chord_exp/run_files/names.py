"""What a run leaves in its folder, and who writes it.

trinity.yaml        the resolved Trinity config (launch)
run.json            the record: how it was started and how it ended (launch)
run.lock            held while a process of the run lives (launch); empty of meaning otherwise
metrics.jsonl       every metric, a row a step and role (plugins.monitor)
checkpoints/        Trinity's: checkpoints, data positions, the buffers' rows
evaluation.json     what an evaluation found, evaluation/items.jsonl every answer (evaluate)
job.json            of a run that is a job of a Ray cluster: which (sweep.job)
wandb/              WandB's files, where it is asked for; swanlab/ and mlflow/ likewise (plugins.trackers)
tensorboard/        TensorBoard's, where it is asked for (plugins.monitor)
logs/run.log        what the run's process printed (launch)
logs/request.json   what that process was told (launch)
logs/phase.txt      what it is doing, in a few words (run process)
logs/stop           asks the run to stop (launch.stop_file)
logs/outcome.json   what it says about its end (run process)
logs/*.log          Trinity's, one a role; *.N.log those of attempt N; logs/ray/ Ray's own
"""

from __future__ import annotations

TRINITY_CONFIG = "trinity.yaml"
LAUNCH = "launch.json"
METRICS = "metrics.jsonl"
RECORD = "run.json"
LOCK = "run.lock"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
