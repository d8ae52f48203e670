"""What the buffers read: whether it is there, lasts, and is asked the way it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chord_exp.check.subject import AUXILIARY, ERROR, WARNING, Finding, Rows, Subject
from chord_exp.trinity_config.plugin_names import EVAL_WORKFLOW_OF
from chord_exp.utils.text import did_you_mean

INPUT = "buffer.explorer_input"
TASKSET = f"{INPUT}.taskset"
DATASET_NAME = "algorithm.sample_strategy_args.sft_dataset_name"
# a workflow that adds a system prompt of its own where none is set
ADDS_SYSTEM_PROMPT = ("math_boxed_workflow", "async_math_boxed_workflow", "math_workflow", "async_math_workflow")
SAMPLING = ("temperature", "top_p", "top_k")
NOTHING_KNOWN = Rows(None, None)


def path_keys(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every path that a buffer reads."""
    subject = Subject(values)
    for name, buffer in subject.section(AUXILIARY).items():
        if isinstance(buffer, Mapping) and buffer.get("storage_type", "queue") == "file":
            yield f"{AUXILIARY}.{name}.path", buffer.get("path")
    for key in task_keys(subject):
        if subject.get(f"{key}.storage_type", "file") == "file":
            yield f"{key}.path", subject.get(f"{key}.path")


def task_keys(subject: Subject) -> Iterator[str]:
    """Dotted keys of all task sets."""
    if isinstance(subject.get(TASKSET), Mapping):
        yield TASKSET
    for group in ("tasksets", "eval_tasksets"):
        yield from (f"{INPUT}.{group}.{index}" for index in range(len(subject.members(f"{INPUT}.{group}"))))


def buffer_rules(subject: Subject) -> Iterator[Finding]:
    """Paths, keys of rows, expert rows and evaluation."""
    for key, path in path_keys(subject.values):
        yield from _path(key, path, subject.rows.get(key, NOTHING_KNOWN))
    for key in task_keys(subject):
        yield from _task_format(subject, key)
    yield from _evaluation(subject)
    if subject.is_chord:
        yield from _expert(subject)


def _path(key: str, path: Any, rows: Rows) -> Iterator[Finding]:
    if not path:
        yield Finding(ERROR, key, "no path is given", "give the folder that holds train.jsonl")
    elif rows.is_file:
        yield Finding(
            ERROR, key, f"{path} is a file, and Trinity loads folders", "put it alone into a folder, as train.jsonl"
        )
    elif rows.missing:
        yield Finding(WARNING, key, f"{path} is not on this machine", "prepare the data, or check on the cluster")
    elif rows.relative:
        yield Finding(
            WARNING,
            key,
            f"{path} is relative: Trinity's workers look for it in the folder where Ray was started",
            "write an absolute path, or ${oc.env:PWD}/" + str(path).removeprefix("./"),
        )


def _task_format(subject: Subject, key: str) -> Iterator[Finding]:
    rows = subject.rows.get(f"{key}.path", NOTHING_KNOWN)
    for name, default in (("prompt_key", "prompt"), ("response_key", "response")):
        field = subject.get(f"{key}.format.{name}", default)
        if rows.keys is not None and field not in rows.keys:
            yield Finding(
                ERROR,
                f"{key}.format.{name}",
                f"{name}={field}, and the rows have {', '.join(rows.keys)}: no error follows, only a reward of 0",
                did_you_mean(str(field), rows.keys) or f"use one of {', '.join(rows.keys)}",
            )
    workflow = _workflow(subject, key)
    if subject.get(f"{key}.format.system_prompt") is None and str(workflow) in ADDS_SYSTEM_PROMPT:
        yield Finding(
            WARNING,
            f"{key}.format",
            f"no system_prompt: {workflow} then adds one of its own, which the expert rows do not have",
            'write the system prompt of the expert rows, or system_prompt: "" for none',
        )


def _workflow(subject: Subject, key: str) -> Any:
    own = subject.get(f"{key}.default_workflow_type")
    for_eval = subject.get(f"{INPUT}.default_eval_workflow_type") if ".eval_tasksets." in key else None
    return own or for_eval or subject.get(f"{INPUT}.default_workflow_type")


def _evaluation(subject: Subject) -> Iterator[Finding]:
    """Trinity 0.6 keeps a runner's workflow with the sampling arguments of its first task."""
    tasks = list(task_keys(subject))
    training = [key for key in tasks if ".eval_tasksets." not in key]
    for key in (key for key in tasks if ".eval_tasksets." in key):
        for other in training:
            workflow = _workflow(subject, key)
            if workflow is None or workflow != _workflow(subject, other):
                continue
            here, there = _sampling(subject, key), _sampling(subject, other)
            if here == there:
                continue
            shown = ", ".join(f"{name} {there[name]} -> {here[name]}" for name in SAMPLING if here[name] != there[name])
            greedy = here["temperature"] == 0
            twin = EVAL_WORKFLOW_OF.get(str(workflow))
            yield Finding(
                ERROR if greedy else WARNING,
                f"{key}.rollout_args",
                f"rollouts after an evaluation keep its sampling arguments ({shown}): Trinity 0.6 reuses a {workflow} "
                "with those of its first task"
                + ("; a group's answers are then all alike and GRPO learns nothing" * greedy),
                f"set default_workflow_type: {twin} for the evaluation" if twin else "give both the same arguments",
            )


def _sampling(subject: Subject, key: str) -> dict[str, Any]:
    defaults = {"temperature": 1.0, "top_p": 1.0, "top_k": -1}
    return {
        name: subject.get(f"{key}.rollout_args.{name}", subject.get(f"model.{name}", defaults[name]))
        for name in SAMPLING
    }


def _expert(subject: Subject) -> Iterator[Finding]:
    buffers, name = subject.section(AUXILIARY), str(subject.get(DATASET_NAME, "sft_dataset"))
    if name not in buffers:
        listed = f"has {', '.join(buffers)}" if buffers else "is empty"
        given = "is left out, so it is" if subject.get(DATASET_NAME) is None else "is"
        yield Finding(
            ERROR,
            DATASET_NAME,
            f"sft_dataset_name {given} {name!r}, and auxiliary_buffers {listed}",
            f"write sft_dataset_name: {next(iter(buffers))}" if len(buffers) == 1 else "name the buffer of expert rows",
        )
        return
    key = f"{AUXILIARY}.{name}"
    if subject.get(f"{key}.storage_type", "queue") != "file":
        yield Finding(ERROR, key, "storage_type is not file: no expert row would ever come", "set storage_type: file")
    if subject.get(f"{key}.schema_type") != "sft":
        yield Finding(WARNING, key, "schema_type is not sft; older versions of Trinity need it", "set schema_type: sft")
    if subject.get(f"{key}.data_selector.selector_type", "sequential") == "sequential":
        yield Finding(
            WARNING,
            key,
            "expert rows are read in the order of the file, over and over",
            "set data_selector: {selector_type: shuffle}",
        )
    yield from _expert_format(subject, key)
    yield from _expert_epochs(subject, key)


def _expert_format(subject: Subject, key: str) -> Iterator[Finding]:
    rows = subject.rows.get(f"{key}.path", NOTHING_KNOWN)
    field = subject.get(f"{key}.format.messages_key", "message")
    uses_messages = subject.get(f"{key}.format.prompt_type", "messages") == "messages"
    if uses_messages and rows.keys is not None and field not in rows.keys:
        yield Finding(
            ERROR,
            f"{key}.format.messages_key",
            f"messages_key={field}, and the rows have {', '.join(rows.keys)}",
            did_you_mean(str(field), rows.keys) or f"use one of {', '.join(rows.keys)}",
        )
    given, model = subject.get(f"{key}.format.enable_thinking"), subject.get("model.enable_thinking")
    if given != model:
        yield Finding(
            WARNING,
            f"{key}.format",
            f"enable_thinking is {given} here and model.enable_thinking is {model}: Trinity does not copy it, so "
            "expert rows and rollouts are rendered differently",
            f"write enable_thinking: {str(model).lower() if model is not None else 'null'}",
        )


def _expert_epochs(subject: Subject, key: str) -> Iterator[Finding]:
    """Training ends, as if it were done, when the expert rows run out."""
    steps, each = subject.steps, subject.expert_rows
    if steps is None or each < 1 or subject.get(f"{key}.total_steps"):
        return
    epochs = subject.whole(f"{key}.total_epochs", 1)
    rows = subject.rows.get(f"{key}.path", NOTHING_KNOWN).count
    shown = "total_epochs is left out, so it is 1" if subject.get(f"{key}.total_epochs") is None else f"{epochs} epochs"
    need = steps * each
    if rows is None:
        yield Finding(
            WARNING,
            f"{key}.total_epochs",
            f"{steps} steps take {need} expert rows ({each} a step), and {shown}: with fewer than "
            f"{-(-need // epochs)} rows training ends early and looks done",
            f"set total_steps: {steps} here",
        )
    elif rows * epochs < need:
        yield Finding(
            ERROR,
            f"{key}.total_epochs",
            f"{steps} steps take {need} expert rows ({each} a step); there are {rows}, and {shown}: training ends at "
            f"step {rows * epochs // each} and looks done",
            f"set total_steps: {steps} here, or total_epochs: {-(-need // rows)}" if rows else "prepare the data",
        )
