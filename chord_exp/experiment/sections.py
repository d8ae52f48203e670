"""The sections of an experiment: model, data, cluster and monitor, checked field by field. Values live in conf/.

Field names are the configuration's keys. Lengths are in tokens, sizes in rows, learning rates per step.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chord_exp.errors import ConfigError
from chord_exp.experiment.field_checks import check_min, check_window, finite, one_of, require, safe_name, tracker_label
from chord_exp.experiment.memory.cards import gib_of
from chord_exp.utils.split_settings import JUDGE, SplitSettings

ENGINES = ("local", "real_cpu", "verl")
SYNC_METHODS = ("nccl", "memory", "checkpoint")
ATTENTIONS = ("auto", "sdpa", "flash_attention_2")
# ranks of the adapters that vLLM 0.23 serves (vllm.config.lora.MaxLoRARanks)
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
TRACKERS = ("wandb", "swanlab", "mlflow", "trackio")
# longest labels that all trackers take (Weights & Biases takes no longer ones), characters
GROUP_LENGTH, TAG_LENGTH = 128, 64


@dataclass(frozen=True)
class LoraSpec:
    """Low-rank adapters (arXiv 2106.09685): W + alpha / rank · BA, with A and B trained and W left as it is."""

    # rank of A and B; null trains all weights
    rank: int | None
    # scale of the adapters' output
    alpha: int
    # layers that get an adapter: all-linear, or a regular expression that matches their whole names
    target_modules: str

    def __post_init__(self) -> None:
        check_min(self, "model.lora.", 1, "rank", "alpha")
        key = "model.lora.target_modules"
        require(bool(self.target_modules.strip()), f"{key} is empty", key, "use all-linear")
        try:
            re.compile(self.target_modules)
        except re.error as error:
            raise ConfigError(
                f"{key}={self.target_modules!r} is no regular expression: {error}", key, "use all-linear"
            ) from error


@dataclass(frozen=True)
class ModelSpec:
    """The model to train, its lengths, and the sizes it is usually trained with."""

    # label of the model, part of folder names
    name: str
    # folder of a Hugging Face checkpoint, or its hub id
    path: str
    # let the checkpoint run its own Python code
    trust_remote_code: bool
    # longest prompt, tokens; longer ones are cut by Trinity and do not count as experience
    max_prompt_tokens: int
    # longest response, tokens
    max_response_tokens: int
    # window of the model, tokens; null: prompt and response together
    max_model_len: int | None
    # sampling temperature of rollouts, above 0; the trainer divides its logits by it
    temperature: float
    # Qwen3's thinking switch in the chat template; null leaves it out
    enable_thinking: bool | None
    # parameters in billions: for the plan, and for the memory that a trial of a sweep asks for
    parameters_b: float
    # adapters to train in place of all weights
    lora: LoraSpec
    # learning rate this model is usually trained with
    lr: float
    # prompts a step it is usually trained with
    batch_size: int
    # rollouts a prompt it is usually trained with
    repeat_times: int
    # steps it is usually trained for; null: from the data and data.epochs
    total_steps: int | None

    def __post_init__(self) -> None:
        finite(self, "model.")
        safe_name("model.name", self.name)
        require(bool(self.path.strip()), "model.path is empty", "model.path", "give a folder or a hub id")
        check_min(self, "model.", 1, "max_prompt_tokens", "max_response_tokens", "max_model_len")
        check_min(self, "model.", 0, "parameters_b")
        require(
            self.temperature > 0,
            f"model.temperature={self.temperature}: rollouts of a group would be alike, and the trainer divides by it",
            "model.temperature",
            "give a temperature above 0, such as 1.0",
        )
        check_window(self.max_prompt_tokens, self.max_response_tokens, self.window)

    @property
    def uses_lora(self) -> bool:
        """Whether adapters are trained, not all weights."""
        return self.lora.rank is not None

    @property
    def window(self) -> int:
        """Tokens of one row at most: prompt and response."""
        if self.max_model_len is None:
            return self.max_prompt_tokens + self.max_response_tokens
        return self.max_model_len


@dataclass(frozen=True)
class DataSpec(SplitSettings):
    """Where the data comes from, how it is split (SplitSettings), asked and judged."""

    # label of the data
    name: str
    # folder of raw SFT files; null: `out` is already prepared
    input_dir: str | None
    # folder of the prepared data; null: one of its own for each way to split `input_dir`
    out: str | None
    # render and count every prepared row before training
    check: bool
    # Trinity workflow that asks every prompt; null: each row names its own
    workflow: str | None
    # Trinity reward function of every prompt; null: each row names its own
    reward: str | None
    # model that judges free text, at the OpenAI-compatible API of OPENAI_BASE_URL; null: none
    judge_model: str | None
    # evaluate every so many steps
    eval_interval: int
    # passes over the data that make up a run when total_steps is null
    epochs: int
    # key of the message list in expert rows
    messages_key: str
    # key of the prompt in RL and evaluation rows
    prompt_key: str
    # key of the reference answer in RL and evaluation rows
    answer_key: str

    def key(self, name: str) -> str:
        """What the user calls a setting."""
        return f"data.{name}"

    def __post_init__(self) -> None:
        finite(self, "data.")
        safe_name("data.name", self.name)
        check_min(self, "data.", 1, "eval_interval", "epochs")
        super().__post_init__()
        require(
            self.free_text != JUDGE or bool(self.judge_model),
            "data.free_text=judge and no model to judge with",
            "data.judge_model",
            "name a model of the OpenAI-compatible API at OPENAI_BASE_URL, or use data.free_text=none",
        )
        for key in ("workflow", "reward", "judge_model"):
            value = getattr(self, key)
            require(value is None or bool(value.strip()), f"data.{key} is empty", f"data.{key}", "give a name, or null")
        for key in ("messages_key", "prompt_key", "answer_key"):
            require(bool(getattr(self, key).strip()), f"data.{key} is empty", f"data.{key}", "give a value")
        require(
            self.input_dir is not None or self.out is not None,
            "neither data.input_dir nor data.out names a folder",
            "data.out",
            "give data.out=FOLDER of prepared data, or data.input_dir=FOLDER of raw data",
        )
        require(self.out is None or bool(self.out.strip()), "data.out is empty", "data.out", "give a folder")


@dataclass(frozen=True)
class ClusterSpec:
    """Where an experiment runs, and how the GPUs are shared by inference engines and trainer."""

    # label of the cluster
    name: str
    # "verl": vLLM and verl on GPUs; "real_cpu": the same on this CPU; "local": transformers and torch in their place
    engine: str
    # machines; for the local engine, of the logical cluster that Trinity validates
    node_num: int
    # GPUs a machine; 1 in all means that engine and trainer share it
    gpu_per_node: int
    # address of the Ray cluster; auto: one that runs here; local: a private one
    ray_address: str
    # inference engines; null: about half of the GPUs
    engine_num: int | None
    # GPUs an inference engine
    tensor_parallel_size: int
    # trainer GPUs that share one row (Ulysses sequence parallelism)
    ulysses_sequence_parallel_size: int
    # workflow runners an engine: how many prompt groups are in flight
    runner_per_model: int
    # how new weights reach the engines: nccl, memory or checkpoint; null: nccl, or memory where they share a GPU. Pure
    # SFT has no engines and is not concerned
    sync_method: str | None
    # attention of the trainer: sdpa, flash_attention_2, or auto: flash-attn where it is installed
    attention: str
    # share of a GPU's memory that an engine takes
    gpu_memory_utilization: float
    # memory of one GPU, GiB, or a card's name; null: read from the machine, unknown where it has none
    gpu_memory_gib: float | int | str | None
    # number format of the rollout model
    dtype: str
    # keep the trainer's parameters in CPU memory between uses; during an update they are on the GPU
    param_offload: bool
    # keep the optimizer's state in CPU memory between uses; during an update it is on the GPU
    optimizer_offload: bool
    # keep parameters, gradients and optimizer in CPU memory throughout, FSDP2's CPU offload
    offload_policy: bool
    # tokens of one micro-batch on one trainer GPU; null: two rows of full length
    max_token_len_per_gpu: int | None
    # save a checkpoint every so many steps; the last step is always saved
    save_interval: int
    # newest checkpoints to keep; 0 keeps all
    max_checkpoints_to_keep: int
    # checkpoints to keep beside those for their held-out score
    keep_best: int
    # device of the local engine: cpu, cuda or auto
    device: str
    # torch threads of each process of the local engine
    threads: int

    def __post_init__(self) -> None:
        finite(self, "cluster.")
        safe_name("cluster.name", self.name)
        one_of("cluster.engine", self.engine, ENGINES)
        one_of("cluster.device", self.device, ("auto", "cpu", "cuda"))
        one_of("cluster.attention", self.attention, ATTENTIONS)
        if self.sync_method is not None:
            one_of("cluster.sync_method", self.sync_method, SYNC_METHODS)
        if self.gpu_memory_gib is not None:
            gib_of(self.gpu_memory_gib)
        positive = (
            "node_num",
            "gpu_per_node",
            "engine_num",
            "tensor_parallel_size",
            "save_interval",
            "threads",
        )
        check_min(self, "cluster.", 1, *positive)
        check_min(self, "cluster.", 1, "ulysses_sequence_parallel_size", "runner_per_model", "max_token_len_per_gpu")
        check_min(self, "cluster.", 0, "max_checkpoints_to_keep", "keep_best")
        require(
            0 < self.gpu_memory_utilization <= 1,
            f"cluster.gpu_memory_utilization={self.gpu_memory_utilization} is not a share of memory",
            "cluster.gpu_memory_utilization",
            "give a number in (0, 1]",
        )


@dataclass(frozen=True)
class MonitorSpec:
    """Where metrics go besides metrics.jsonl."""

    # label of the monitor
    name: str
    # who gets them: one of TRACKERS; null: nobody
    tracker: str | None
    # online where a key or a server is configured; else, and with offline, kept in the run folder to be uploaded later
    mode: str
    # runs shown together there; null: the sweep's folder, or the name of the run
    group: str | None
    # further tags, beside variant, model, data and cluster
    tags: list[str]
    # write TensorBoard files beside metrics.jsonl
    tensorboard: bool

    def __post_init__(self) -> None:
        safe_name("monitor.name", self.name)
        if self.tracker is not None:
            one_of("monitor.tracker", self.tracker, TRACKERS)
        one_of("monitor.mode", self.mode, ("online", "offline"))
        if self.group is not None:
            tracker_label("monitor.group", self.group, GROUP_LENGTH)
        for tag in self.tags:
            tracker_label("monitor.tags", tag, TAG_LENGTH)
