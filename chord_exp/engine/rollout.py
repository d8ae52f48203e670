"""The rollout model of the local engine: Trinity's inference model interface on transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trinity.common.config import InferenceModelConfig
from trinity.common.constants import SyncMethod
from trinity.common.experience import Experience
from trinity.common.models.allocator import Allocator, get_model_wrapper
from trinity.common.models.model import BaseInferenceModel, ModelWrapper
from trinity.manager.synchronizer import Synchronizer

from chord_exp.engine import checkpoint
from chord_exp.engine.sampler import SamplingParams, rollout_seed, sample_group
from chord_exp.engine.settings import EngineSettings
from chord_exp.run_files.checkpoints import hf_dir


class LocalRolloutModel(BaseInferenceModel):
    """A Ray actor that answers Trinity's `chat`, `generate` and `logprobs` with a transformers model.

    Weights come from the Synchronizer's memory; the group of a prompt is sampled in one batch (`sampler`).
    """

    def __init__(self, config: InferenceModelConfig) -> None:
        super().__init__(config)
        self.settings = EngineSettings(**(config.extra_engine_args or {}))
        self.model_version = 0

    async def prepare(self) -> None:
        """Load weights and tokenizer once."""
        torch.set_num_threads(self.settings.threads)
        self.model = AutoModelForCausalLM.from_pretrained(
            self.config.model_path,
            dtype=getattr(torch, self.config.dtype),
            trust_remote_code=self.config.trust_remote_code,
        ).to(self.settings.torch_device())
        self.model.eval()
        await self._initialize_tokenizer()
        self.end_tokens = end_token_ids(self.model, self.tokenizer)
        self._prepared = True

    async def _initialize_tokenizer(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(
            self.config.model_path, trust_remote_code=self.config.trust_remote_code
        )

    async def chat(self, messages: list[dict], lora_request: Any = None, **kwargs: Any) -> Sequence[Experience]:
        """Sample responses to a conversation; keyword arguments as in `generate`."""
        return await self.generate(self.apply_chat_template(self.tokenizer, messages), **kwargs)

    async def generate(self, prompt: str, lora_request: Any = None, **kwargs: Any) -> Sequence[Experience]:
        """Sample `n` responses to a prompt text.

        Keyword arguments left out fall back to the model's own, as with Trinity's vLLM model. A prompt over
        `max_prompt_tokens` comes back as Trinity's masked dummy experiences.
        """
        prompt_ids, fits = self._handle_prompt_truncation(prompt, n=kwargs.get("n", 1))
        if not fits:
            return prompt_ids
        params = self._sampling_params(len(prompt_ids), kwargs)
        seed = rollout_seed(self.settings.seed, self.model_version, prompt_ids)
        responses = sample_group(self.model, prompt_ids, params, self.end_tokens, seed)
        prompt_tensor = torch.tensor(prompt_ids, dtype=torch.int32)
        return [
            Experience(
                tokens=torch.cat((prompt_tensor, response.tokens.to(torch.int32))),
                logprobs=response.logprobs,
                prompt_length=len(prompt_ids),
                prompt_text=prompt,
                response_text=self.tokenizer.decode(response.tokens, skip_special_tokens=True),
                truncate_status=None if response.finished else "response_truncated",
            )
            for response in responses
        ]

    def _sampling_params(self, prompt_length: int, given: dict[str, Any]) -> SamplingParams:
        def setting(name: str, default: Any) -> Any:
            value = given.get(name)
            return default if value is None else value

        wanted = setting("max_tokens", self.config.max_response_tokens)
        room = self.config.max_model_len - prompt_length if self.config.max_model_len else wanted
        return SamplingParams(
            n=setting("n", 1),
            temperature=setting("temperature", self.config.temperature),
            top_p=setting("top_p", self.config.top_p),
            top_k=setting("top_k", self.config.top_k),
            max_tokens=max(1, min(wanted, room)),
            min_tokens=setting("min_tokens", self.config.min_response_tokens or 0),
        )

    @torch.inference_mode()
    async def logprobs(
        self, token_ids: list[int], lora_request: Any = None, temperature: float | None = None
    ) -> torch.Tensor:
        """Log-probabilities [length - 1] of each token after the first, at `temperature` (the model's own if None)."""
        temperature = self.config.temperature if temperature is None else temperature
        ids = torch.tensor([token_ids], device=self.model.device)
        logits = self.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        if temperature:
            logits = logits / temperature
        return logits.log_softmax(dim=-1).gather(-1, ids[0, 1:, None])[:, 0].cpu()

    async def get_message_token_len(self, messages: list[dict]) -> int:
        """Number of tokens of a conversation under the chat template."""
        return len(self.tokenizer(self.apply_chat_template(self.tokenizer, messages))["input_ids"])

    async def sync_model_weights(self, model_version: int, method: SyncMethod, timeout: float = 1200) -> int:
        """Load the weights of `model_version`: from the Synchronizer's memory, or from a checkpoint in mode `bench`."""
        if method == SyncMethod.CHECKPOINT:
            weights = checkpoint.read_weights(hf_dir(self.config.checkpoint_job_dir, model_version))
            version = model_version
        else:
            synchronizer = Synchronizer.get_actor(namespace=self.config.ray_namespace)
            weights, version = await synchronizer.get_model_state_dict.remote()
        # weights that are tied are stored once
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - set(self.model.all_tied_weights_keys):
            raise RuntimeError(f"weights of version {version} do not fit the rollout model: {missing} {unexpected}")
        self.model_version = version
        return version

    def get_lora_request(self) -> None:
        """No adapter to name in a request: they are merged into the weights."""

    def get_model_version(self) -> int:
        """The trainer step whose weights are loaded."""
        return self.model_version


def end_token_ids(model: Any, tokenizer: Any) -> set[int]:
    """Ids that end a response: the generation config's, the model config's and the tokenizer's."""
    ends: set[int] = set()
    for owner in (model.generation_config, model.config, tokenizer):
        ids = getattr(owner, "eos_token_id", None)
        listed = ids if isinstance(ids, (list, tuple)) else [ids]
        ends.update(int(token) for token in listed if token is not None)
    return ends


class LocalAllocator(Allocator):
    """Trinity's allocator, creating local rollout models instead of vLLM engines."""

    async def create_engine(self, config: InferenceModelConfig, role: str, engine_id: int) -> ModelWrapper:
        """Create and prepare one rollout model actor."""
        name = self.get_actor_name(role, engine_id, 0)
        bundle = (name, self.bundle_result.actor_bundle_map[name])
        return await get_model_wrapper(LocalRolloutModel, config, self.pg, [bundle])
