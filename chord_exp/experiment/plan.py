"""What will run, for a reader before it costs anything: every derived number with its formula."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from chord_exp.experiment.geometry import Geometry, Stage
from chord_exp.experiment.memory.fit import Machine, use_of
from chord_exp.experiment.memory.remedies import cheapest
from chord_exp.experiment.memory.show import cost_rows, memory_rows, time_rows
from chord_exp.experiment.objective import MU_KEYS, MU_RULES, NO_PHI, SCHEDULE
from chord_exp.experiment.rehearsal import DIFFERENCES
from chord_exp.experiment.schedule import values
from chord_exp.experiment.spec import DataFacts, ExperimentSpec

_BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 60


def mu_curve(spec: ExperimentSpec, steps: int, width: int = CURVE_WIDTH) -> str:
    """μ from the first to the last step as one line of bars, a full bar for μ = 1."""
    weights = values(spec.mu, steps)
    columns = min(width, steps)
    picked = [weights[round(column * (steps - 1) / max(1, columns - 1))] for column in range(columns)]
    return "".join(_BARS[round(weight * (len(_BARS) - 1))] for weight in picked)


def render(
    spec: ExperimentSpec,
    facts: DataFacts,
    geometry: Geometry,
    user_overrides: Iterable[tuple[str, Any]],
    machine: Machine,
    step_times: Mapping[str, float] | None = None,
) -> RenderableType:
    """The plan as something that rich prints.

    Args:
        user_overrides: dotted Trinity keys set under `trinity:`, with their values.
        machine: what the forecast of memory must know besides.
        step_times: where the time of a step went in the run that is resumed, seconds by name.
    """
    parts: list[RenderableType] = [_overview(spec, facts)]
    parts += [_stage_table(spec, facts, stage) for stage in geometry.stages]
    if spec.uses_chord:
        parts.append(_mu_table(spec, geometry.total_steps))
    parts += _memory_tables(spec, facts, geometry, machine)
    if machine.architecture is not None:
        parts.append(_table("Costs", cost_rows(spec, geometry, machine.architecture)))
    if step_times:
        parts.append(_table("Time of a step so far", time_rows(step_times)))
    if spec.cluster.engine == "real_cpu":
        rows = [(each.key, f"{each.rehearsal}; on GPUs {each.on_gpus}", each.why) for each in DIFFERENCES]
        parts.append(_table("A rehearsal on a CPU: all as on GPUs but", rows))
    overrides = dict(user_overrides)
    if overrides:
        parts.append(
            _table(
                "Set by hand under trinity:, merged last",
                [(key, str(value), "") for key, value in overrides.items()],
            )
        )
    parts += [Text(f"warning: {warning}", style="yellow") for warning in geometry.warnings]
    return Group(*parts)


def show(
    spec: ExperimentSpec,
    facts: DataFacts,
    geometry: Geometry,
    user_overrides: Iterable[tuple[str, Any]],
    machine: Machine,
    step_times: Mapping[str, float] | None = None,
) -> None:
    """Print the plan; wide enough to keep rows whole when the output is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(render(spec, facts, geometry, user_overrides, machine, step_times))


def _table(title: str, rows: Iterable[tuple[str, str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _overview(spec: ExperimentSpec, facts: DataFacts) -> Table:
    model, data, cluster = spec.model, spec.data, spec.cluster
    rows = "assumed, the folder is missing" if facts.assumed else "counted"
    return _table(
        f"{spec.project}/{spec.name}: variant {spec.effective_variant}, loss {spec.loss}, seed {spec.seed}",
        [
            ("model", model.path, f"{model.name}, about {model.parameters_b:g}B parameters"),
            (
                "tokens a row",
                str(model.window),
                f"prompt {model.max_prompt_tokens} + response {model.max_response_tokens}",
            ),
            ("data", data.input_dir or facts.folder, f"prepared in {facts.folder}"),
            ("expert rows", str(facts.expert_rows), rows),
            ("RL prompts", str(facts.rl_rows), rows),
            ("evaluation prompts", str(facts.eval_rows), rows),
            *([("test prompts", str(facts.test_rows), "nothing is chosen by them")] if facts.test_rows else []),
            ("workflow", data.workflow or "of each row", f"reward: {data.reward or 'of each row'}"),
            ("learning rate", _rates(spec), "AdamW, constant"),
            (
                "cluster",
                cluster.name,
                f"{_counted(cluster.node_num, 'machine')} of {_counted(cluster.gpu_per_node, 'GPU')}"
                if cluster.engine != "local"
                else "this machine",
            ),
        ],
    )


def _stage_table(spec: ExperimentSpec, facts: DataFacts, stage: Stage) -> Table:
    batch, gpus, cluster = stage.batch, stage.gpus, spec.cluster
    rows: list[tuple[str, str, str]] = [("steps", str(stage.steps), _steps_formula(spec, facts, stage))]
    if batch.usual_rows:
        rows.append(
            (
                "U, rollouts a step",
                str(batch.usual_rows),
                f"batch_size {spec.batch_size} x repeat_times {spec.repeat_times}",
            )
        )
    if batch.expert_rows:
        rows.append(("E, expert rows a step", str(batch.expert_rows), _expert_formula(spec, stage)))
    rows += [
        ("T, rows a training step", str(batch.rows), "U + E = train_batch_size"),
        ("tokens a step, at most", f"{batch.rows * spec.model.window:,}", "T x tokens a row"),
    ]
    if cluster.engine != "local":
        rows.append(
            (
                "GPU split",
                _split_text(gpus),
                f"mode {gpus.mode}, tensor_parallel_size {cluster.tensor_parallel_size}",
            )
        )
    rows += [
        (
            "D, data-parallel size",
            str(gpus.data_parallel_size),
            "one device"
            if cluster.engine == "local"
            else f"{_counted(gpus.trainer, 'trainer GPU')} / sequence parallel "
            f"{cluster.ulysses_sequence_parallel_size}",
        ),
        ("rows a rank", str(batch.rows // gpus.data_parallel_size), "T / D"),
        (
            "tokens a micro-batch",
            str(stage.max_token_len_per_gpu),
            "at most" if cluster.engine == "local" else "on one GPU, at most",
        ),
    ]
    if stage.prompt_epochs:
        used = stage.steps * spec.batch_size
        rows.append(("RL prompts used", f"{used:,}", f"{used / facts.rl_rows:.2f} passes over {facts.rl_rows:,}"))
    if stage.expert_epochs:
        used = stage.steps * batch.expert_rows
        rows.append(
            (
                "expert rows used",
                f"{used:,}",
                f"{used / facts.expert_rows:.2f} passes over {facts.expert_rows:,}; total_epochs {stage.expert_epochs}",
            )
        )
    saved = f"every {stage.save_interval} steps and at the end"
    kept = f"keeps {cluster.max_checkpoints_to_keep or 'all'}"
    if cluster.max_checkpoints_to_keep and cluster.keep_best:
        kept = f"keeps the newest {cluster.max_checkpoints_to_keep} and the best {cluster.keep_best} by held-out score"
    rows.append(("checkpoints", saved, kept))
    if batch.usual_rows and (facts.eval_rows or facts.test_rows):
        rows.append(("evaluation", f"every {stage.eval_interval} steps", "and before the first"))
    return _table(f"Stage {stage.kind}", rows)


def _memory_tables(
    spec: ExperimentSpec, facts: DataFacts, geometry: Geometry, machine: Machine
) -> list[RenderableType]:
    uses = use_of(spec, geometry, machine)
    if not uses:
        if spec.cluster.engine == "verl":
            return [Text(f"Memory: the sizes of {spec.model.path} are not known here, so nothing is forecast")]
        return []
    remedy = cheapest(spec, facts, machine)
    card = "" if machine.card_gib is None else f" (a card of {machine.card_gib:g} GiB)"
    return [
        _table(f"Memory of stage {use.stage.kind}{card}: docs/memory.md", memory_rows(use, machine, remedy))
        for use in uses
    ]


def _steps_formula(spec: ExperimentSpec, facts: DataFacts, stage: Stage) -> str:
    if spec.total_steps is not None:
        if spec.total_steps == stage.steps:
            return "total_steps"
        return f"of total_steps {spec.total_steps}; sft_share {spec.sft_share:g}"
    if stage.kind == "sft":
        rows = f"{facts.expert_rows} expert rows / {stage.batch.expert_rows} a step"
        return f"data.epochs {spec.data.epochs} x {rows}"
    return f"data.epochs {spec.data.epochs} x {facts.rl_rows} RL prompts / batch_size {spec.batch_size}"


def _expert_formula(spec: ExperimentSpec, stage: Stage) -> str:
    asked = spec.expert_data_ratio
    text = f"U x rho / (1 - rho) with rho = {asked:g}, so that D divides the batch"
    return text if stage.kind == "sft" else f"{text}; rho in effect {stage.batch.expert_rows / stage.batch.rows:.4f}"


def _split_text(gpus: Any) -> str:
    if gpus.mode == "train":
        return f"{gpus.trainer} for the trainer"
    if gpus.mode == "colocate":
        return "engine and trainer share 1"
    return f"{gpus.rollout} for {_counted(gpus.engine_num, 'engine')} + {gpus.trainer} for the trainer"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _rates(spec: ExperimentSpec) -> str:
    if spec.variant == "sft":
        return f"{spec.sft_lr:g}"
    return f"{spec.sft_lr:g}, then {spec.lr:g}" if spec.variant == "sft_then_grpo" else f"{spec.lr:g}"


def _mu_table(spec: ExperimentSpec, steps: int) -> Table:
    phi = "" if spec.phi == NO_PHI else f" (phi={spec.phi} on every expert token)"
    title = f"μ, the weight of the SFT term{phi}"
    if spec.mu_source != SCHEDULE:
        numbers = ", ".join(f"{key} {getattr(spec, key):g}" for key in MU_KEYS[spec.mu_source])
        return _table(title, [("μ of a step", f"{spec.mu_source}: {MU_RULES[spec.mu_source]}", numbers)])
    weights = values(spec.mu, steps)
    marks: Mapping[int, str] = {
        1: "first step",
        max(1, min(steps, spec.mu_warmup_steps)): "end of warm-up",
        min(steps, spec.mu_warmup_steps + spec.mu_decay_steps) or 1: "end of decay",
        steps: "last step",
    }
    text = ", ".join(f"step {step}: {weights[step - 1]:.3f}" for step in sorted(marks))
    return _table(title, [("μ over steps", mu_curve(spec, steps), "a full bar is 1"), ("values", text, "")])
