"""The generated files of package/: four YAML files (values from conf/, comments from comments.zh.yaml) and
chord_training_guide.md (docs/guide.zh-CN.md). They are checked in, and a test keeps them in step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import yaml
from yaml_text import annotated

from chord_exp.config import compose
from chord_exp.data_facts import assumed_facts
from chord_exp.experiment.geometry import Stage, derive
from chord_exp.experiment.spec import ExperimentSpec
from chord_exp.trinity_config.build import Folders, to_trinity
from chord_exp.trinity_config.user_overrides import lookup

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "package"
GUIDE = ROOT / "docs" / "guide.zh-CN.md"
COMMENTS = Path(__file__).with_name("comments.zh.yaml")

# what Trinity resolves when it reads the file: its workers run in the folder where Ray was started, so that a path
# relative to the package would depend on who started Ray; PWD is the folder where `trinity run` is typed
MODEL = "${oc.env:TRINITY_MODEL_PATH,%s}"
DATA = "${oc.env:CHORD_DATA_DIR,${oc.env:PWD}/prepared}"
CHECKPOINTS = "${oc.env:TRINITY_CHECKPOINT_ROOT_DIR,./checkpoints}"

# kind, name of the experiment in the file, the main file, its trainer half, the experiment in conf/
PAIRS = (
    ("full", "qwen3_chord", "qwen3_chord_config.yaml", "qwen3_chord_train_config.yaml", "seed_full"),
    ("simple", "qwen3_chord_simple", "qwen3_chord_simple.yaml", "qwen3_chord_simple_train.yaml", "seed_simple"),
)
# the trainer half: what decides how the trainer updates, and nothing that must agree with the sizes of a batch
HALF = ("algorithm.optimizer", "trainer")
JOIN_COMMAND = (
    'python -c "from omegaconf import OmegaConf as O; '
    "O.save(O.merge(O.load('{main}'), O.load('{half}')), 'my_config.yaml')\""
)


def specification(name: str, experiment: str) -> ExperimentSpec:
    """An experiment of conf/ with Trinity's own loss: nothing of chord_exp is needed where it runs."""
    overrides = [
        f"experiment={experiment}",
        "data=folder",
        "data.input_dir=sft_data",
        "data.out=/prepared",
        "loss=stock",
        f"name={name}",
    ]
    compose.register_schema()
    with hydra.initialize_config_module("chord_exp.conf", version_base="1.3", job_name="package"):
        config = hydra.compose(compose.CONFIG_NAME, overrides=overrides)
    return compose.read(config)[0]


def numbers(spec: ExperimentSpec, stage: Stage) -> dict[str, Any]:
    """What the comments may name."""
    batch, gpus, cluster, model = stage.batch, stage.gpus, spec.cluster, spec.model
    return {
        "U": batch.usual_rows,
        "E": batch.expert_rows,
        "T": batch.rows,
        "D": gpus.data_parallel_size,
        "steps": stage.steps,
        "mu_steps": spec.mu_warmup_steps + spec.mu_decay_steps,
        "mu_warmup_steps": spec.mu_warmup_steps,
        "batch_size": spec.batch_size,
        "repeat_times": spec.repeat_times,
        "gpus": gpus.total,
        "rollout_gpus": gpus.rollout,
        "trainer_gpus": gpus.trainer,
        "engines": gpus.engine_num,
        "tensor": cluster.tensor_parallel_size,
        "sequence": cluster.ulysses_sequence_parallel_size,
        "window": model.window,
        "max_prompt_tokens": model.max_prompt_tokens,
        "max_response_tokens": model.max_response_tokens,
    }


def yaml_pair(kind: str, name: str, main: str, half: str, experiment: str) -> dict[str, str]:
    """The texts of a main file and its trainer half, by file name."""
    spec = specification(name, experiment)
    facts = replace(assumed_facts(spec), folder=DATA)
    geometry = derive(spec, facts)
    (stage,) = geometry.stages
    config = to_trinity(spec, facts, geometry, Folders(CHECKPOINTS, None))
    config["model"]["model_path"] = MODEL % spec.model.path
    texts = yaml.safe_load(COMMENTS.read_text(encoding="utf-8"))
    known = {**numbers(spec, stage), "main": main, "half": half}
    known["kind"] = texts["headers"][kind].format(**known)
    known["join"] = JOIN_COMMAND.format(**known)
    comments = {key: text.format(**known) for key, text in texts["keys"].items()}
    header, half_header = (texts["headers"][file].format(**known) for file in ("main", "half"))
    return {
        main: annotated(config, comments, header),
        half: annotated(trainer_half(config), {**comments, **texts["half"]}, half_header),
    }


def trainer_half(config: dict[str, Any]) -> dict[str, Any]:
    """The sections of a configuration that make up the trainer half."""
    lower: dict[str, Any] = {}
    for path in HALF:
        *sections, last = path.split(".")
        node = lower
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = lookup(config, path)
    return lower


def guide() -> str:
    """The Chinese guide with links that lead on from package/."""

    def moved(match: re.Match[str]) -> str:
        target = (GUIDE.parent / match.group(1)).resolve()
        return f"]({(Path('..') / target.relative_to(ROOT)).as_posix()}{match.group(2) or ''})"

    note = "<!-- make package: docs/guide.zh-CN.md -->\n"
    return note + re.sub(r"\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)", moved, GUIDE.read_text(encoding="utf-8"))


def files() -> dict[str, str]:
    """Every generated file of the package, by name."""
    made: dict[str, str] = {}
    for pair in PAIRS:
        made |= yaml_pair(*pair)
    made["chord_training_guide.md"] = guide()
    return made


def main(argv: Sequence[str]) -> int:
    """Write the files; with --check only say which differ, exit code 1 if any."""
    texts = files()
    stale = [name for name, text in texts.items() if _read(PACKAGE / name) != text]
    if "--check" in argv:
        if stale:
            print(f"out of step with conf/ and docs/: {', '.join(stale)} -> make package")
        return int(bool(stale))
    for name in stale:
        (PACKAGE / name).write_text(texts[name], encoding="utf-8")
        print(f"written: package/{name}")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
