"""`python -m chord_exp.evaluate RUN|MODEL_FOLDER`: what is a model worth on held-out prompts, and how sure is that?

Exit codes: 0 scored, 1 the evaluation failed, 2 nothing to score or bad data, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from chord_exp.errors import SUCCEEDED, ConfigError, RunFailed
from chord_exp.evaluate import target as targets
from chord_exp.evaluate.show import show
from chord_exp.evaluate.target import BASE, Session, Target
from chord_exp.launch.driver.warm_server import warm_server
from chord_exp.launch.evaluation import Asking, ask
from chord_exp.launch.kept import add_choice, chosen, run_around
from chord_exp.launch.run_request import ANSWERS
from chord_exp.prepare import Manifest, load_manifest
from chord_exp.run_files import record
from chord_exp.run_files.evaluation import EVALUATION, FOLDER, GREEDY, ITEMS, SAMPLED, Evaluation, ModelScore
from chord_exp.run_files.model_card import try_write_card
from chord_exp.run_files.scores import Item, answers_of
from chord_exp.sweep.show.live import plain_console
from chord_exp.trinity_config.build import Folders, to_yaml
from chord_exp.trinity_config.evaluation import PROJECT, Sampling, as_evaluation
from chord_exp.trinity_config.rows import EVAL, MANIFEST_FILE, RL, TEST
from chord_exp.utils.files import share_lock, try_lock, write_atomically
from chord_exp.utils.program import run_program
from chord_exp.utils.text import warn

PROGRAM = "chord_exp.evaluate"
SAMPLES = 8
# folders of weights have their evaluations below it
OUTPUTS = "outputs/evaluations"


def main(argv: Sequence[str] | None = None) -> int:
    """Score what the command line names; returns the exit code."""
    given = build_parser().parse_intermixed_args(argv)
    return run_program(PROGRAM, lambda: _evaluate(given))


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Score a run's checkpoints, or a folder of weights, on held-out prompts: with intervals, beside "
        "the base model.",
        epilog="Asked are the run's held-out prompts, by its own workflows, rewards and lengths. Exit code 0: scored.",
        allow_abbrev=False,
    )
    parser.add_argument("target", type=Path, metavar="RUN|MODEL_FOLDER", help="folder of a run, or of weights")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="of a run: another cluster; of weights: model and cluster, as in python -m chord_exp",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="prepared folder whose held-out prompts to ask; or raw data or a hub id, all of whose prompts are asked",
    )
    parser.add_argument(
        "--side",
        choices=(EVAL, TEST, RL),
        help="whose prompts: test, which chose nothing, where there are any, else eval (the default); or rl, of data "
        "that no training saw",
    )
    parser.add_argument("--k", type=int, default=SAMPLES, help="sampled answers a prompt; 0: greedy only (%(default)s)")
    add_choice(parser)
    parser.add_argument("--base", metavar="MODEL", help="of weights: the model to compare with")
    parser.add_argument("--no-base", action="store_true", help="of a run: leave its base model out")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the result goes (the run's folder)")
    return parser


def _evaluate(given: argparse.Namespace) -> int:
    if given.k < 0:
        raise ConfigError(f"--k {given.k} is no number of answers", "--k", "give 0 or more")
    target = _target(given)
    manifest, side = _held_out(target.data, given.side)
    out = (given.out or target.run_dir or Path(OUTPUTS, given.target.name)).expanduser().absolute()
    console = plain_console()
    items: dict[str, list[Item]] = {}
    lost = 0
    local = any(session.engine == "local" for session in target.sessions)
    # not to be replaced meanwhile
    held = share_lock(manifest.folder / MANIFEST_FILE) or nullcontext()
    with _draft(out) as draft, held, warm_server() if local else nullcontext():
        for number, session in enumerate(target.sessions):
            found, lost_here = _ask(session, manifest.folder / side, given.k, draft / str(number), console)
            items |= found
            lost += lost_here
        write_atomically(draft / ITEMS, "".join(_lines(items)))
    evaluation = _summary(target, items, manifest, side, given.k, lost)
    evaluation.save(out / EVALUATION)
    show(console, evaluation)
    _write_cards(target, evaluation)
    for name, path in (("result", out / EVALUATION), ("answers", out / FOLDER / ITEMS)):
        console.print(f"  {name:<12}{path}", highlight=False, markup=False, soft_wrap=True)
    return SUCCEEDED


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """A folder to work in, which takes the place of the last evaluation's at the end; after an error it stays, with its
    logs.

    Raises:
        ConfigError: another process works there, or the place is taken by something else.
    """
    draft = out / f"{FOLDER}.part"
    if (out / FOLDER).exists() and not (out / FOLDER / ITEMS).is_file():
        raise ConfigError(f"{out / FOLDER} is no evaluation", "--out", "give another folder")
    out.mkdir(parents=True, exist_ok=True)
    lock = try_lock(out / f"{FOLDER}.lock", f"process {os.getpid()}")
    if lock is None:
        raise ConfigError(f"{out} is being evaluated by another process", str(out), "wait, or give another --out")
    with lock:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        yield draft
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        draft.rename(out / FOLDER)


def _target(given: argparse.Namespace) -> Target:
    """What the words name."""
    folder = given.target.expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {given.target}", "RUN|MODEL_FOLDER", "give a run's folder, or weights")
    run_dir = run_around(folder)
    if run_dir is not None:
        if given.base:
            raise ConfigError("--base is of folders of weights; a run knows its base model", "--base", "leave it out")
        found = targets.of_run(run_dir, given.overrides, chosen(given, folder, run_dir), base=not given.no_base)
        return replace(found, data=targets.benchmark(given.data)) if given.data else found
    targets.refuse_sweep(folder)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} holds neither a run (run.json) nor a model (config.json)",
            "RUN|MODEL_FOLDER",
            "give a folder below outputs/, or one of Hugging Face weights",
        )
    if given.data is None:
        raise ConfigError("a folder of weights has no prompts of its own", "--data", "add --data DIR")
    return targets.of_folder(folder, given.overrides, given.data, given.base)


def _held_out(data: Path | None, side: str | None) -> tuple[Manifest, str]:
    """The prepared data, and the side of it that is asked, which must have prompts."""
    if data is None:
        raise ConfigError(
            "the run held no prompts out", "--data", "add --data DIR, raw data or a folder with held-out prompts"
        )
    manifest = load_manifest(data)
    chosen = side or (TEST if manifest.test_rows else EVAL)
    if not {EVAL: manifest.eval_rows, TEST: manifest.test_rows, RL: manifest.rl_rows}[chosen]:
        raise ConfigError(
            f"{data} holds no prompts of the {chosen} side",
            "--data",
            "prepare it with --eval-rows or --test-rows above 0",
        )
    return manifest, chosen


def _ask(
    session: Session, prompts: Path, samples: int, folder: Path, console: Console
) -> tuple[dict[str, list[Item]], int]:
    """Have the models of a session answer; return the answers by label, and how many were lost."""
    temperature = session.config["model"]["temperature"]
    samplings = {GREEDY: Sampling(0.0, 1)} | ({SAMPLED: Sampling(temperature, samples)} if samples else {})
    folders = Folders(str(folder / "checkpoints"), str(folder / "monitor.jsonl"))
    config = as_evaluation(
        session.config,
        folder.name,
        folders,
        samplings,
        prompts=str(prompts),
        all_gpus=session.engine == "verl",
    )
    job = folder / "checkpoints" / PROJECT / folder.name
    job.mkdir(parents=True)
    for model in session.models:
        if model.checkpoint is not None:
            (job / f"global_step_{model.step}").symlink_to(model.checkpoint, target_is_directory=True)
    steps = [model.step for model in session.models]
    ask(Asking(to_yaml(config), session.engine, config["cluster"]["ray_address"], steps), folder, console)
    labels = {model.step: model.label for model in session.models}
    found: dict[str, list[Item]] = {label: [] for label in labels.values()}
    lost = 0
    for line in (folder / ANSWERS).read_bytes().splitlines():
        item = orjson.loads(line)
        if "lost" in item:
            lost += item["lost"]
            warn([item["error"]])
        else:
            found[labels[item.pop("step")]].append(item)
    (folder / ANSWERS).unlink()
    for label, items in found.items():
        if not items:
            raise RunFailed(f"{label} gave no answer at all", str(folder / "logs"), "look at explorer_runner_*.log")
    return found, lost


def _lines(items: dict[str, list[Item]]) -> Iterator[str]:
    for label, found in items.items():
        for item in sorted(found, key=lambda item: (item["sampling"], item["row"], item["run"])):
            yield orjson.dumps({"model": label, **item}, option=orjson.OPT_APPEND_NEWLINE).decode()


def _summary(
    target: Target, items: dict[str, list[Item]], manifest: Manifest, side: str, samples: int, lost: int
) -> Evaluation:
    def of(label: str, sampling: str) -> list[Item]:
        return [item for item in items.get(label, []) if item["sampling"] == sampling]

    scores = []
    for session in target.sessions:
        for model in session.models:
            answers = {
                sampling: answers_of(asked, of(BASE, sampling) if model.label != BASE else ())
                for sampling in (GREEDY, SAMPLED)
                if (asked := of(model.label, sampling))
            }
            scores.append(ModelScore(model.label, model.step, model.weights, answers))
    config: dict[str, Any] = target.sessions[0].config
    return Evaluation(
        created=record.utc_now(),
        data=str(manifest.folder),
        data_digest=manifest.digest,
        side=side,
        samples=samples,
        temperature=config["model"]["temperature"],
        engine=target.sessions[-1].engine,
        models=scores,
        lost=lost,
        versions=record.versions(),
    )


def _write_cards(target: Target, evaluation: Evaluation) -> None:
    """Put the scores into the cards of the run's models that were scored."""
    if target.run_dir is None:
        return
    for model in evaluation.models:
        if model.step and any(Path(model.weights).glob("*.safetensors")):
            warn(try_write_card(Path(model.weights), target.run_dir))


if __name__ == "__main__":
    sys.exit(main())
