"""Trinity's Explorer and Trainer, made to tell the truth about how they ended, and their local-engine versions.

Stock Trinity catches every exception in its two loops, logs it and returns as if finished; the crashed trainer even
writes a last checkpoint. The subclasses here run the same steps through the same methods and let errors out.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import trinity.trainer.trainer as trinity_trainer
from trinity.common.config import Config
from trinity.common.constants import RunningStatus, SyncMethod, SyncStyle
from trinity.common.experience import Experience
from trinity.explorer.explorer import Explorer
from trinity.trainer.trainer import Trainer

from chord_exp.engine import checkpoint
from chord_exp.engine.coordinator import counting_coordinator
from chord_exp.engine.rollout import LocalAllocator
from chord_exp.engine.scoring import Item, item_of, read_tasks
from chord_exp.engine.train_engine import LocalTrainEngine, NonFiniteLoss
from chord_exp.errors import ConfigError, RunFailed
from chord_exp.plugins.sample_strategy import TokenCountMixSampleStrategy


class StrictTrainer(Trainer):
    """Trinity's trainer whose `train` raises what went wrong, and which can be asked to stop after a step."""

    def __init__(self, config: Config) -> None:
        if config.synchronizer.sync_style != SyncStyle.FIXED:
            raise ConfigError(
                f"synchronizer.sync_style is {config.synchronizer.sync_style}, CHORD is trained strictly on-policy",
                "trinity.synchronizer.sync_style",
                "set it to fixed",
            )
        super().__init__(config)
        self._stop_requested = False

    async def request_stop(self) -> None:
        """Finish the current step, save a checkpoint and return from `train`."""
        self._stop_requested = True

    async def train(self) -> str:
        """Trinity's training loop for fixed synchronisation, without its polling and without its silence.

        Stock `train` looks for samples once a second; here the read itself is awaited.
        """
        while self.train_step_num < self.total_steps and not self._stop_requested:
            try:
                experiences, metrics, preview = await self._sample_data()
            except StopAsyncIteration:
                self.logger.info("No more samples to train. Stopping training.")
                break
            metrics.update(await self.train_step(experiences))
            _refuse_non_finite(metrics, self.train_step_num)
            need_sync, need_save = await self.need_sync(), self.need_save()
            # a full checkpoint is also what checkpoint synchronisation reads
            saves_for_sync = need_save and self.sync_method == SyncMethod.CHECKPOINT
            if need_sync and not saves_for_sync:
                metrics.update(await self.sync_weight())
            if need_save:
                is_last = self.train_step_num >= self.total_steps
                as_hf = self.save_hf_checkpoint == "always" or (is_last and self.save_hf_checkpoint == "last")
                metrics.update(await self.save_checkpoint(block_until_saved=is_last, save_as_hf=as_hf))
                if saves_for_sync:
                    self.last_sync_step = self.train_step_num
            if self.config.trainer.enable_preview:
                self._log_experiences(preview)
            self.monitor.log(metrics, self.train_step_num)
        await self.save_checkpoint(block_until_saved=True, save_as_hf=self.save_hf_checkpoint != "never")
        await self.synchronizer.set_trainer_status.remote(RunningStatus.STOPPED)
        return self.config.trainer.name

    async def train_step(self, exps: list[Experience]) -> dict[str, Any]:
        """Make one update; tell the sample strategy what it logged, before a checkpoint keeps its state."""
        metrics = await super().train_step(exps)
        if isinstance(self.sample_strategy, TokenCountMixSampleStrategy):
            self.sample_strategy.observe(metrics)
        return metrics

    async def _sample_data(self) -> tuple[list[Experience], dict[str, Any], list[dict]]:
        """Sample a batch and count the rollouts whose prompt was too long: Trinity masks them without a word."""
        experiences, metrics, preview = await super()._sample_data()
        metrics["sample/prompt_truncated"] = sum(row.truncate_status == "prompt_truncated" for row in experiences)
        return experiences, metrics, preview

    async def completed_steps(self) -> int:
        """Number of updates made."""
        return self.train_step_num


def _refuse_non_finite(metrics: dict[str, Any], step: int) -> None:
    """Refuse to go on after an update whose gradient was no number: verl leaves the update out, without a word."""
    if not math.isfinite(metrics.get("actor/grad_norm", 0.0)):
        ours = ((key, value) for key, value in metrics.items() if key.startswith("actor/"))
        wrong = next(key for key, value in ours if not math.isfinite(value))
        raise NonFiniteLoss(f"{wrong} is not finite at step {step}")


class StrictExplorer(Explorer):
    """Trinity's explorer whose `explore` raises what went wrong and ends after the planned steps."""

    async def prepare(self) -> None:
        """Start Trinity's rollout models, and a coordinator that counts what evaluations lose."""
        with counting_coordinator():
            await super().prepare()

    async def explore(self) -> str:
        """Trinity's exploring loop; evaluations are made on the weights of the step they are logged at.

        Stock Trinity evaluates before the weights of the same step arrive, so its figure at step s belongs to s - 1.
        """
        total_steps = self.config.buffer.total_steps
        while total_steps is None or self.explore_step_num < total_steps:
            if not await self.explore_step():
                break
            if await self.need_sync():
                await self.sync_weight()
                if self.need_eval() and self.explore_step_num != total_steps:
                    await self.evaluate()
        return self.config.explorer.name

    async def evaluate(self) -> None:
        """Evaluate the weights in place and log the result at the current step."""
        await self.eval()
        await self._finish_eval_step(step=self.explore_step_num)

    async def evaluate_checkpoint(self, step: int) -> None:
        """In mode `bench`: log the base model's evaluation at step 0 and the checkpoint's at its own step."""
        await self._finish_eval_step(step=0)
        self.explore_step_num = await self._checkpoint_weights_update(step_num=step)
        await self.evaluate()

    async def answers(self, step: int, number: int) -> tuple[list[Item], int, str]:
        """In mode `bench`: ask every prompt of an evaluation task set.

        Args:
            step: of the checkpoint that answers; 0 for the model that was loaded, before any checkpoint.
            number: of the task set.

        Returns:
            The answers, how many were lost, and the first error of those.
        """
        if step != self.explore_step_num:
            self.explore_step_num = await self._checkpoint_weights_update(step_num=step)
        taskset = self.config.buffer.explorer_input.eval_tasksets[number]
        tasks = await read_tasks(taskset)
        lost, error, payloads = await self.rollout_coordinator.run_tasks.remote(f"{step}/{taskset.name}", tasks)
        experiences = [one for payload in payloads for one in Experience.deserialize_many(payload)]
        return [item_of(one, tasks[int(one.eid.task)], taskset.name) for one in experiences], lost, error

    async def _finish_explore_step(self, step: int) -> None:
        """Collect a step's rollouts; refuse a step that lost some.

        The trainer waits for every planned row and the explorer for the trainer, so a lost rollout would hang both.
        """
        metric = {"rollout/model_version": self.model_version}
        result = await self.rollout_coordinator.finalize_train_batch.remote(step)
        self.taskset.feedback(result["metrics"])
        metric.update(result["metrics"])
        self.monitor.log(metric, step=step)
        every_step = self.sync_interval == 1 and self.sync_offset == 0
        if every_step and self.model_version != step - 1:
            raise RunFailed(
                f"the rollouts of step {step} came from the weights of step {self.model_version}, not {step - 1}",
                "logs/explorer.log",
                "a weight update failed there; CHORD is trained strictly on-policy",
            )
        planned = self.config.buffer.batch_size * self.config.algorithm.repeat_times
        arrived = int(metric.get("experience_pipeline/experience_count", 0))
        if arrived < planned:
            # an engine that was killed loses rollouts too: asked anything, it raises that it died
            engines = [engine for model in self.models for engine in model.models]
            await asyncio.gather(*(engine.get_model_version.remote() for engine in engines))
            raise RunFailed(
                f"only {arrived} of the {planned} rollouts of step {step} succeeded",
                "logs/explorer_runner_*.log",
                "the workflow or its reward raised an error there; mend it and resume",
            )

    async def save_checkpoint(self) -> None:
        """Save the data position, and remember it for a later return to this step's checkpoint."""
        await super().save_checkpoint()
        state = {"latest_iteration": self.explore_step_num, "taskset_states": self.taskset.state_dict()}
        checkpoint.record_explorer_state(self.config.checkpoint_job_dir, state)


class LocalTrainer(StrictTrainer):
    """The trainer on the local train engine."""

    def __init__(self, config: Config) -> None:
        # Trinity has no registry of train engines: `Trainer.__init__` calls this one function of its module. It is
        # replaced in this actor's process only, for the length of the call (tests/integration pins the name).
        original = trinity_trainer.get_trainer_wrapper
        trinity_trainer.get_trainer_wrapper = LocalTrainEngine
        try:
            super().__init__(config)
        finally:
            trinity_trainer.get_trainer_wrapper = original

    async def save_checkpoint(self, block_until_saved: bool = False, save_as_hf: bool = False) -> dict[str, Any]:
        """Save, with the sample strategy's position in the same file as the weights it belongs to."""
        self.engine.sample_strategy_state = self.sample_strategy.state_dict()
        return await super().save_checkpoint(block_until_saved, save_as_hf)


class LocalExplorer(StrictExplorer):
    """The explorer on local rollout models."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model_allocator = LocalAllocator(config.explorer)
