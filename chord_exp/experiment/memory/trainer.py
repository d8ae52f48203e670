"""Peak memory of one trainer GPU: verl 0.8 with FSDP2, 32-bit parameters gathered in bfloat16, and checkpointing.

The counts are those of PyTorch's FSDPMemTracker, which follows a real update on fake tensors (`make check-memory`);
docs/memory.md says where each comes from. Letters: P parameters, F trainer GPUs, T tokens of a micro-batch on one GPU,
L layers, p parameters of a layer, h hidden, i intermediate, q and k the widths of all query and all key heads, d of
one, V vocabulary. Sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from chord_exp.experiment.memory.architecture import ALL_LINEAR, FAMILIES, Architecture
from chord_exp.experiment.memory.terms import GIB, Phase, Term

# what no tracker sees, bytes: CUDA's context and the kernels loaded into it, cuBLAS's workspace
CONTEXT = 0.7 * GIB
# NCCL's buffers of a group of GPUs
COMMUNICATOR = 0.25 * GIB


@dataclass(frozen=True)
class TrainerSetup:
    """What the peak of a trainer GPU depends on."""

    architecture: Architecture
    # F
    gpus: int
    # T
    tokens: int
    # GPUs that share a row
    sequence: int = 1
    # FSDP2's CPU offload
    offload_policy: bool = False
    # rank of the adapters; 0: all parameters are trained
    lora_rank: int = 0
    # linear layers with adapters: all-linear, or a regular expression
    lora_targets: str = ALL_LINEAR
    # flash-attn, or else sdpa, which needs a mask to keep packed rows apart
    flash: bool = True
    # tokens of all micro-batches of an update whose outputs are kept until its end; 0: let go of after each
    kept_tokens: float = 0


def phases(setup: TrainerSetup) -> tuple[Phase, ...]:
    """Return what is allocated in each phase of an update that can be the peak."""
    found = [_logits(setup), _projection(setup), *_layer(setup), _embeddings(setup), _gathering(setup)]
    if not setup.offload_policy:
        found.append(_step(setup))
    return tuple(found)


def peak(setup: TrainerSetup) -> Phase:
    """Return the phase that needs most."""
    return max(phases(setup), key=lambda phase: phase.size)


def outside(setup: TrainerSetup) -> tuple[Term, ...]:
    """Return what no tracker sees; rough figures."""
    found = [Term("CUDA context, cuBLAS", CONTEXT, "estimate")]
    groups = (setup.gpus > 1) + (setup.sequence > 1)
    if groups:
        found.append(Term("NCCL buffers", groups * COMMUNICATOR, "estimate"))
    if setup.kept_tokens:
        # verl issues 6696 and 6984
        size = 2 * setup.kept_tokens * setup.architecture.hidden
        found.append(Term("outputs that verl 0.8 keeps", size, "2h a token of the update"))
    if not setup.flash:
        found.append(Term("sdpa's copy of the mask", 2 * setup.tokens**2, "2T^2"))
    if setup.offload_policy:
        # a layer and the embedding on their way to the gather buffer, in 32 bits
        size = 4 * (setup.architecture.embedding_parameters + setup.architecture.layer_parameters) / setup.gpus
        found.append(Term("copies from CPU memory", size, "4(Vh + p)/F"))
    return tuple(found)


def _layer_adapters(setup: TrainerSetup) -> int:
    return setup.architecture.lora_parameters(setup.lora_rank, setup.lora_targets)


def _adapters(setup: TrainerSetup) -> int:
    return setup.architecture.layers * _layer_adapters(setup)


def _layer_parameters(setup: TrainerSetup) -> int:
    """Parameters of a layer, its adapters included."""
    return setup.architecture.layer_parameters + _layer_adapters(setup)


def _state(setup: TrainerSetup) -> tuple[Term, ...]:
    """Parameters, gradients and optimizer, which are on the GPU throughout an update."""
    if setup.offload_policy:
        return ()
    parameters, gpus = setup.architecture.parameters, setup.gpus
    if setup.lora_rank:
        adapters = _adapters(setup)
        return (
            Term("parameters", (4 * parameters + 2 * adapters) / gpus, "4P/F, frozen, in 32 bits"),
            Term("adapters' gradients and optimizer", 6 * adapters / gpus, "6 bytes a parameter / F"),
        )
    return (
        Term("parameters", 4 * parameters / gpus, "4P/F"),
        Term("gradients", 4 * parameters / gpus, "4P/F"),
        Term("optimizer", 8 * parameters / gpus, "8P/F"),
    )


def _inputs(setup: TrainerSetup, layers: int) -> Term:
    """Inputs of layers, kept to compute the layers again, and the tables of the rotary embedding."""
    tokens, model = setup.tokens, setup.architecture
    return Term("layer inputs", tokens * (2 * layers * model.hidden + 4 * model.head_dim), "2ThL")


def _logits(setup: TrainerSetup) -> Phase:
    tokens, model = setup.tokens, setup.architecture
    return Phase(
        "loss",
        (
            *_state(setup),
            _inputs(setup, model.layers),
            _mask(setup),
            _ends(setup),
            # 2 for the gradient of the divided logits and 6 for copies: verl divides a view of them by the temperature
            # in place, which autograd takes back in three copies. No cross entropy takes more than that before
            Term("logits", 8 * tokens * model.vocabulary, "8TV"),
        ),
    )


def _projection(setup: TrainerSetup) -> Phase:
    """The output projection, gathered for its backward pass."""
    model = setup.architecture
    return Phase(
        "backward, output projection",
        (
            *_state(setup),
            _inputs(setup, model.layers),
            _ends(setup),
            Term("gathered output projection", 4 * model.embedding_parameters, "4Vh"),
            Term("logits", 2 * setup.tokens * model.vocabulary, "2TV, their gradient"),
        ),
    )


def _ends(setup: TrainerSetup) -> Term:
    count = 4 if setup.lora_rank else 8
    return Term("last hidden states", count * setup.tokens * setup.architecture.hidden, f"{count}Th")


def _mask(setup: TrainerSetup) -> Term:
    return Term("attention mask", 0 if setup.flash else setup.tokens**2, "T^2 for sdpa")


def _activations(setup: TrainerSetup) -> float:
    """Bytes a token of one layer, computed again and in the backward pass of its MLP."""
    model = setup.architecture
    h, i, q, k = model.hidden, model.intermediate, model.query_width, model.kv_width
    _, head_norms = FAMILIES[model.model_type]
    residual, heads = (14, 8) if setup.lora_rank else (18, 10)
    if not head_norms:
        heads -= 6
    # the exchange of Ulysses; keys and values repeated for every query head
    extra = 2 * q if setup.sequence > 1 else 4 * (q - k) if not setup.flash else 0
    return residual * h + heads * (q + k) + extra + 12 * i + 8 * model.heads


def _layer(setup: TrainerSetup) -> tuple[Phase, ...]:
    """The last layer, whose backward pass comes first, and the one before it."""
    model, parameters = setup.architecture, _layer_parameters(setup)
    gathered = Term("gathered layers", 4 * parameters, "2p, and 2p of the next")
    root = 2 * model.embedding_parameters * (1 if setup.lora_rank else 2) if model.tied else 0
    common = (
        *_state(setup),
        _mask(setup),
        gathered,
        Term("output projection", root, "2Vh, and its gradient"),
        Term("activations of a layer", setup.tokens * _activations(setup), "T(18h + 10(q + k) + 12i)"),
        Term("gradients of a layer", 0 if setup.lora_rank else 2 * model.hidden * model.intermediate, "2hi"),
    )
    last = 0 if model.tied or setup.lora_rank else 4 * model.embedding_parameters
    before = 0 if setup.lora_rank else 4 * parameters
    return (
        Phase("backward, last layer", (*common, _inputs(setup, model.layers), Term("reduction", last, "4Vh"))),
        Phase("backward, a layer", (*common, _inputs(setup, model.layers - 1), Term("reduction", before, "4p"))),
    )


def _embeddings(setup: TrainerSetup) -> Phase:
    """Gradients of the embedding and of the output projection."""
    model = setup.architecture
    size = model.embedding_parameters
    if setup.lora_rank:
        return Phase("embedding", _state(setup))
    terms: tuple[Term, ...]
    if model.tied:
        terms = (
            Term("gradients of the embedding", 8 * size, "8Vh"),
            Term("reduction", 4 * model.layer_parameters, "4p"),
        )
    else:
        held = 2 if setup.gpus > 1 else 0
        terms = (
            _inputs(setup, model.layers),
            Term("gradients of the output projection", (4 + held) * size + 4 * size / setup.gpus, "6Vh + 4Vh/F"),
            Term("gathered layers", 2 * model.layer_parameters, "2p"),
        )
    return Phase("embedding", (*_state(setup), *terms))


def _gathering(setup: TrainerSetup) -> Phase:
    """What is gathered to go forward: the embedding and first layers, or the last layer and an output projection."""
    model = setup.architecture
    if model.tied:
        return Phase(
            "forward, first layer",
            (
                *_state(setup),
                Term("gathered embedding", 4 * model.embedding_parameters, "4Vh"),
                Term("gathered layers", 4 * _layer_parameters(setup), "4p"),
            ),
        )
    return Phase(
        "forward, output projection",
        (
            *_state(setup),
            _inputs(setup, model.layers),
            _ends(setup),
            Term("gathered output projection", 4 * model.embedding_parameters, "4Vh"),
            Term("gathered layers", 2 * _layer_parameters(setup), "2p"),
        ),
    )


def _step(setup: TrainerSetup) -> Phase:
    adapters = _adapters(setup)
    trained = 2 * adapters if setup.lora_rank else 4 * setup.architecture.parameters
    return Phase("optimizer step", (*_state(setup), Term("temporaries", trained / setup.gpus, "4P/F")))
