"""The train engine of the local engine: Trinity's engine interface on plain torch.

One optimizer step per Trinity step, as strict on-policy CHORD asks. The protocol is that of verl >= 0.8 with one rank:
the loss of each micro-batch is backpropagated by itself and the gradients add up, so the policy loss must weigh itself
(`chord_exp.plugins.loss`).
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trinity.algorithm import ENTROPY_LOSS_FN, KL_FN, POLICY_LOSS_FN
from trinity.algorithm.kl_fn.kl_fn import DummyKLFn
from trinity.common.config import Config, OptimizerConfig
from trinity.common.experience import Experience
from trinity.manager.synchronizer import Synchronizer
from trinity.trainer.trainer import TrainEngineWrapper

from chord_exp.engine import checkpoint, lora
from chord_exp.engine.batch import collate, micro_batches, to_device, training_order
from chord_exp.engine.settings import EngineSettings
from chord_exp.errors import ConfigError
from chord_exp.plugins.loss import reduce_micro_batch_metrics
from chord_exp.run_files.checkpoints import ADAPTER_FOLDER, hf_dir, latest_step


class NonFiniteLoss(FloatingPointError):
    """A loss or gradient that is not a finite number; the weights have not been touched by it."""


def learning_rate_factor(step: int, total_steps: int | None, config: OptimizerConfig) -> float:
    """Share of the full learning rate at update `step` (from 0): linear warm-up, then constant or cosine, as verl's."""
    warmup = config.lr_warmup_steps
    if warmup < 0:
        warmup = int(config.lr_warmup_steps_ratio * (total_steps or 0))
    if step < warmup:
        return step / max(1, warmup)
    if config.lr_scheduler_type == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, (total_steps or step + 1) - warmup))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.min_lr_ratio + (1.0 - config.min_lr_ratio) * cosine


class LocalTrainEngine(TrainEngineWrapper):
    """Trains a transformers model on Trinity experiences, on one device."""

    def __init__(self, config: Config) -> None:
        algorithm = config.algorithm
        if not isinstance(KL_FN.get(algorithm.kl_loss_fn)(**(algorithm.kl_loss_fn_args or {})), DummyKLFn):
            raise ConfigError(
                f"the local engine keeps no reference model, so it has no KL loss ({algorithm.kl_loss_fn!r})",
                "algorithm.kl_loss_fn",
                "set it to none, as in the CHORD paper, or run on a GPU cluster",
            )
        self.config = config
        self.settings = EngineSettings.from_config(config)
        self.job_dir = config.checkpoint_job_dir
        self.policy_loss = POLICY_LOSS_FN.get(algorithm.policy_loss_fn)(backend="verl", **algorithm.policy_loss_fn_args)
        self.entropy_loss = None
        if algorithm.entropy_loss_fn != "none":
            self.entropy_loss = ENTROPY_LOSS_FN.get(algorithm.entropy_loss_fn)(**algorithm.entropy_loss_fn_args)
        # the sample strategy's position, kept here by the trainer so that one file holds a consistent state
        self.sample_strategy_state: dict[str, Any] = {}
        self._step = 0
        self._saved_step = 0

    async def prepare(self) -> None:
        """Load the model, and on resume everything a checkpoint holds."""
        torch.set_num_threads(self.settings.threads)
        torch.manual_seed(self.settings.seed)
        job_dir, path = self.job_dir, self.config.model.model_path
        start = latest_step(job_dir) if self.config.continue_from_checkpoint else 0
        self.adapter = lora.adapter_of(self.config)
        model = AutoModelForCausalLM.from_pretrained(
            hf_dir(job_dir, start) if start and self.adapter is None else path,
            dtype=torch.float32,
            trust_remote_code=self.config.model.trust_remote_code,
        )
        if self.adapter is not None:
            kept = checkpoint.adapter_dir(job_dir, start) if start else None
            model = lora.add_adapter(model, self.adapter, kept)
        self.model = model.to(self.settings.torch_device())
        self.model.train()
        self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=self.config.model.trust_remote_code)
        optimizer = self.config.algorithm.optimizer
        self.optimizer = torch.optim.AdamW(
            self._trained(),
            lr=optimizer.lr,
            betas=(optimizer.betas[0], optimizer.betas[1]),
            weight_decay=optimizer.weight_decay,
        )
        if start:
            state = checkpoint.load_train_state(job_dir, start)
            self.optimizer.load_state_dict(state["optimizer"])
            self.sample_strategy_state = state["sample_strategy"]
            checkpoint.set_random_state(state["random"])
            self._step = self._saved_step = start

    @property
    def train_step_num(self) -> int:
        """Number of updates made so far."""
        return self._step

    async def train_step(self, batch_exps: list[Experience]) -> dict[str, float]:
        """One update on one batch.

        Raises:
            NonFiniteLoss: before the weights are changed.
        """
        started = time.perf_counter()
        experiences = sorted(batch_exps, key=training_order)
        batch = collate(experiences, self._pad_token_id())
        trainer = self.config.trainer
        # fixed batches are of one row
        budget = (trainer.max_token_len_per_gpu or batch["input_ids"].numel()) if trainer.use_dynamic_bsz else 1
        # what Trinity hands to verl >= 0.8, for expert rows too and without a task set
        temperature = self.config.model.temperature
        self.optimizer.zero_grad(set_to_none=True)
        parts: list[dict] = []
        entropy_sum = torch.zeros(())
        rollout_tokens = torch.zeros(())
        for piece in micro_batches(batch, budget):
            piece = to_device(piece, self.model.device)
            logprobs, entropy = self._forward(piece, temperature)
            loss, metrics = self._loss(piece, logprobs, entropy)
            loss.backward()
            parts.append(metrics)
            from_rollouts = piece["response_mask"].bool()
            if "expert_mask" in piece:
                from_rollouts = from_rollouts & ~piece["expert_mask"][:, None]
            entropy_sum += (entropy.detach() * from_rollouts).sum().cpu()
            rollout_tokens += from_rollouts.sum().cpu()
        result = {f"actor/{key}": value for key, value in reduce_micro_batch_metrics(parts).items()}
        norm = torch.nn.utils.clip_grad_norm_(
            self._trained(), self.config.algorithm.optimizer.clip_grad or float("inf")
        ).item()
        factor = learning_rate_factor(self._step, self.config.trainer.total_steps, self.config.algorithm.optimizer)
        learning_rate = self.config.algorithm.optimizer.lr * factor
        # the gradient decides: Trinity's stock loss logs NaN for a one-sided micro-batch whose gradient is right
        if not math.isfinite(norm):
            wrong = next((key for key, value in result.items() if not math.isfinite(value)), "actor/grad_norm")
            raise NonFiniteLoss(f"{wrong} is not finite at step {self._step + 1}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self._step += 1
        seconds = time.perf_counter() - started
        tokens = int(batch["attention_mask"].sum())
        result |= {
            "actor/grad_norm": norm,
            "actor/lr": learning_rate,
            "perf/total_num_tokens": tokens,
            "perf/tokens_per_second": tokens / seconds,
            "time/update_actor": seconds,
        }
        if rollout_tokens > 0:
            result["actor/entropy"] = (entropy_sum / rollout_tokens).item()
        return result

    def _trained(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _weights(self) -> dict[str, Tensor]:
        """The weights that a model without adapters has to load."""
        return self.model.state_dict() if self.adapter is None else lora.merged_weights(self.model)

    def _pad_token_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if pad is None else pad

    def _forward(self, piece: dict[str, Tensor], temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies [B, R] of the response tokens, at the rollout temperature."""
        response_length = piece["response_mask"].shape[1]
        logits = self.model(
            input_ids=piece["input_ids"],
            attention_mask=piece["attention_mask"],
            position_ids=piece["position_ids"],
            use_cache=False,
            logits_to_keep=response_length + 1,
        ).logits[:, :-1]
        distribution = (logits.float() / temperature).log_softmax(dim=-1)
        targets = piece["input_ids"][:, -response_length:, None]
        logprobs = distribution.gather(-1, targets)[..., 0]
        with torch.set_grad_enabled(self.entropy_loss is not None):
            entropy = -(distribution.exp() * distribution).sum(dim=-1)
        return logprobs, entropy

    def _loss(self, piece: dict[str, Tensor], logprobs: Tensor, entropy: Tensor) -> tuple[Tensor, dict]:
        fields = {name: piece[name] for name in self.policy_loss.select_keys if name in piece}
        loss, metrics = self.policy_loss(logprob=logprobs, **fields)
        if self.entropy_loss is not None:
            entropy_loss, entropy_metrics = self.entropy_loss(
                entropy=entropy,
                action_mask=piece["response_mask"],
                loss_agg_mode=self.config.algorithm.loss_agg_mode,
                expert_mask=piece.get("expert_mask"),
            )
            loss, metrics = loss - entropy_loss, {**metrics, **entropy_metrics}
        return loss, metrics

    async def save_checkpoint(self, block_until_saved: bool = False, save_as_hf: bool = False) -> None:
        """Write the state after the current step, unless it is on disk already."""
        if self._step in (0, self._saved_step):
            return
        train_state = {
            "step": self._step,
            "optimizer": self.optimizer.state_dict(),
            "random": checkpoint.random_state(),
            "sample_strategy": self.sample_strategy_state,
        }
        keep = self.config.trainer.max_checkpoints_to_keep
        checkpoint.save(self.job_dir, self._step, self._write_weights, self.tokenizer, train_state, keep)
        self._saved_step = self._step

    def _write_weights(self, actor_dir: Path) -> None:
        """Write what a checkpoint holds of the model: the weights for anyone, and the adapters beside them."""
        target = actor_dir / checkpoint.HF_FOLDER
        if self.adapter is None:
            self.model.save_pretrained(target)
            return
        self.model.save_pretrained(actor_dir / ADAPTER_FOLDER)
        with torch.no_grad():
            self.model.get_base_model().save_pretrained(target, state_dict=self._weights())

    async def upload_state_dict(self) -> None:
        """Hand the weights to the Synchronizer, from whose memory the rollout models load them."""
        if self._step == 0:
            return
        with torch.no_grad():
            weights = {name: tensor.detach().cpu() for name, tensor in self._weights().items()}
        synchronizer = Synchronizer.get_actor(namespace=self.config.ray_namespace)
        await synchronizer.set_model_state_dict.remote(weights, self._step)

    async def save_state_dict(self) -> None:
        """Checkpoint synchronisation: only pure SFT runs get here, and they have no rollout model waiting."""
        await self.save_checkpoint()

    def sync_weight_nccl(self) -> None:
        """NCCL needs GPUs on both sides.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "the local engine synchronises weights through memory", "synchronizer.sync_method", "set it to memory"
        )

    async def get_weight_sync_info(self) -> None:
        """No NCCL group to meet in."""

    async def setup_weight_sync_group(self, *args: Any, **kwargs: Any) -> None:
        """No NCCL group to join."""

    async def teardown_weight_sync_group(self) -> None:
        """No NCCL group to leave."""
