"""From a ModelSpec to a model that can write, checked before anything large is read."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from msgspec.structs import replace
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    dynamic_module_utils,
)
from transformers.initialization import no_init_weights
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from tui_entropy.core.crash_report import report_of
from tui_entropy.core.errors import UserError
from tui_entropy.core.files import NO_FILE
from tui_entropy.engine.architecture.architecture import Architecture, architecture_of, parts_of, usual
from tui_entropy.engine.architecture.masked import masked_architecture
from tui_entropy.engine.kernels.products import check as check_products
from tui_entropy.engine.kernels.products import products
from tui_entropy.engine.loading.trial import verified_architecture, verify_masked
from tui_entropy.engine.models.loaded import Loaded
from tui_entropy.engine.reliability.report import load_report
from tui_entropy.engine.reliability.trust import trust
from tui_entropy.engine.sources import model_files
from tui_entropy.engine.sources.hashes import config_hash, tokenizer_hash
from tui_entropy.engine.sources.reading import reading, said_by
from tui_entropy.engine.sources.resolve import Report, Weights, lasting_name, weights_of
from tui_entropy.engine.sources.safetensors_header import Checkpoint, checkpoint_of
from tui_entropy.engine.tokenization.tokenizer import Tokenizer
from tui_entropy.records.events import Progress
from tui_entropy.records.model import DTYPES, ModelCard, ModelSpec

WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the classes end that write text from left to right, but for those that the library knows by another name."""
MASKED = "ForMaskedLM"
"""How those end that fill in masked tokens."""
READ = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".py", ".tiktoken")
"""How the names of files end that transformers reads."""


def load(spec: ModelSpec, report: Report, masked: bool = False) -> Loaded:
    """Get a model, read it, and look it over.

    masked: whether one that fills in masked tokens will do too: its texts can be scored (scoring/masked.py), and
    nothing can be written by it.

    Raises UserError for whatever the person can put right: a name that leads nowhere, a damaged file, a device that
    is not there, too little memory, code that was not trusted.
    """
    _be_quiet()
    device = _device(spec.device)
    check_products(spec.products)
    if spec.dtype != "auto" and spec.dtype not in DTYPES:
        raise UserError(f"there is no dtype {spec.dtype!r} here; use auto, {', '.join(DTYPES)}")

    def check_download(n_bytes: int) -> None:
        if spec.dtype == "auto":
            _check_room(n_bytes, device, spec.name)

    weights = weights_of(spec, report, check_download)
    with reading(lambda error: _unusable(weights, error, spec)):
        return _loaded(weights, spec, device, report, masked)


def _loaded(weights: Weights, spec: ModelSpec, device: torch.device, report: Report, masked: bool) -> Loaded:
    _check_files(weights)
    config = _config(weights, spec, masked)
    checkpoint = checkpoint_of(weights.folder)
    model_files.check_sizes(config, checkpoint.n_tensors, weights.name)
    report(Progress("reading the tokenizer"))
    hf_tokenizer = _tokenizer(weights, spec)
    dtype = _dtype(spec.dtype, config, checkpoint, device)
    quantised = getattr(config, "quantization_config", None) is not None
    _check_room(checkpoint.n_bytes if quantised else checkpoint.n_weights * dtype.itemsize, device, weights.name)
    report(Progress(f"loading {weights.name}"))
    if masked and _fills_in(config):
        return _masked(weights, spec, hf_tokenizer, dtype, device)
    _look_before(weights, spec, config)
    model = _model(weights, spec, _kind(config), dtype, device)
    architecture = architecture_of(model)
    n_embeddings = min(architecture.vocab, len(model.get_input_embeddings().get_parameter("weight")))
    tokenizer = Tokenizer(hf_tokenizer, _eos_ids(model, weights.name), n_embeddings, spec.chat_template)
    card = replace(
        _card(weights, model, tokenizer, architecture),
        requested=lasting_name(spec),
        config_hash=config_hash(weights.folder),
        tokenizer_hash=tokenizer_hash(weights.folder),
    )
    return _looked_over(model, tokenizer, architecture, card, spec)


def adopted(model: PreTrainedModel, hf_tokenizer: PreTrainedTokenizerBase) -> Loaded:
    """A model that somebody has loaded with transformers, as it is. Its name and settings are its own, and nobody
    knows which files it came from.

    Raises UserError for one in training, one that does not write text, and whatever cannot be looked into.
    """
    name = model.name_or_path or type(model).__name__
    weights = Weights(Path(), name, None, "", "as it was given")
    if model.training:
        raise UserError(f"{name} is in training, where dropout makes each pass another one: call model.eval() first")
    with reading(lambda error: UserError(f"{name} cannot be used here ({type(error).__name__}: {said_by(error)})")):
        architecture = architecture_of(model)
        n_embeddings = min(architecture.vocab, len(model.get_input_embeddings().get_parameter("weight")))
        tokenizer = Tokenizer(hf_tokenizer, _eos_ids(model, name), n_embeddings)
        card = _card(weights, model, tokenizer, architecture)
        return _looked_over(model, tokenizer, architecture, card, ModelSpec(name))


def _looked_over(
    model: PreTrainedModel, tokenizer: Tokenizer, architecture: Architecture, card: ModelCard, spec: ModelSpec
) -> Loaded:
    """What is known of it by trying."""
    card = replace(card, products=products(model, card, spec.products))
    architecture = verified_architecture(Loaded(model, tokenizer, architecture, card))
    card = replace(card, attention=architecture.attention)
    card = replace(card, trust=trust(architecture, card, load_report(card)))
    return Loaded(model, tokenizer, architecture, card, spec.graph)


def _masked(weights: Weights, spec: ModelSpec, hf_tokenizer: Any, dtype: torch.dtype, device: torch.device) -> Loaded:
    if hf_tokenizer.mask_token_id is None:
        raise UserError(f"the tokenizer of {weights.name} has no mask, and its model fills in masked tokens")
    model = _model(weights, spec, AutoModelForMaskedLM, dtype, device)
    architecture = masked_architecture(model)
    tokenizer = Tokenizer(hf_tokenizer, (), architecture.vocab)
    loaded = Loaded(model, tokenizer, architecture, _card(weights, model, tokenizer, architecture))
    verify_masked(loaded)
    return loaded


def _be_quiet() -> None:
    """Silence the libraries. What goes wrong is raised; the rest would land in a log that nobody asked for."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # it would ask on the terminal, and wait for an answer


# --- Device, dtype, memory -----------------------------------------------------------------------------------


def _device(name: str) -> torch.device:
    here = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return here or torch.device("cpu")
    devices = ", ".join(["cpu", *(f"{here}:{i}" for i in range(torch.accelerator.device_count()) if here)])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"there is no kind of device called {name!r}; this machine has {devices}") from None
    has_it = here is not None and device.type == here.type and (device.index or 0) < torch.accelerator.device_count()
    if device.type != "cpu" and not has_it:
        raise UserError(f"the device {name} is not there or not usable by this torch; this machine has {devices}")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # clocks and graphs are of the current one
    return device


def _dtype(name: str, config: PreTrainedConfig, checkpoint: Checkpoint, device: torch.device) -> torch.dtype:
    """As asked. 'auto' is the checkpoint's own, except on a CPU, where float32 is as fast, if memory is plentiful."""
    if name != "auto":
        return getattr(torch, name)  # type: ignore[no-any-return]
    own: torch.dtype = getattr(config, "dtype", None) or checkpoint.dtype
    quantised = getattr(config, "quantization_config", None) is not None
    if device.type == "cpu" and not quantised and checkpoint.n_weights * 4 <= free_bytes(device) / 2:
        return torch.float32
    return own


def free_bytes(device: torch.device) -> int:
    """Bytes. What an accelerator shares with the CPU counts as the CPU's."""
    if device.type in ("cpu", "mps"):
        return int(psutil.virtual_memory().available)
    return torch.accelerator.get_memory_info(device)[0]


def _check_room(n_bytes: int, device: torch.device, name: str) -> None:
    free = free_bytes(device)
    if n_bytes > free:
        raise UserError(
            f"the weights of {name} take {n_bytes / 2**30:.1f} GiB and {device} has {free / 2**30:.1f} GiB free; use "
            "--dtype bfloat16, another --device, or a smaller model"
        )


# --- Reading -------------------------------------------------------------------------------------------------


def _check_files(weights: Weights) -> None:
    """Raise UserError for a pipe or a device in a model's folder, which a library would wait for when it opens it."""
    for entry in os.scandir(weights.folder):
        waits = os.path.exists(entry.path) and not (entry.is_file() or entry.is_dir())
        if waits and entry.name.endswith(READ):
            raise UserError(
                f"{entry.path} is {NO_FILE}, so {weights.name} cannot be read: remove it or put a file there"
            )


def _config(weights: Weights, spec: ModelSpec, masked: bool) -> PreTrainedConfig:
    if not (weights.folder / "config.json").is_file():
        ggufs = [path.name for path in weights.folder.glob("*.gguf")]
        way_out = f"pass the file {weights.folder / ggufs[0]}" if ggufs else "pass the folder of a transformers model"
        raise UserError(f"{weights.folder} holds no config.json; {way_out}")
    files = model_files.checked_files(weights.folder)
    if not spec.trust_remote_code and model_files.own_code(files, *_known(files)):
        raise _untrusted(weights)
    with _reading(weights, "configuration", spec):
        config: PreTrainedConfig = AutoConfig.from_pretrained(weights.folder, **_local(spec))
    classes = [name for name in config.architectures or [] if isinstance(name, str)]
    kind = classes[0] if classes else config.model_type
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    if masked and _fills_in(config):
        return config
    if classes and not any(name.endswith(WRITERS) or name in known for name in classes):
        raise UserError(f"{weights.name} is a {kind}, which does not write text; pass a causal language model")
    if config.is_encoder_decoder and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(
            f"{weights.name} is a {kind}, whose decoder writes about what an encoder has read and cannot do "
            "without; pass a model that is a decoder alone"
        )
    return config


def _fills_in(config: PreTrainedConfig) -> bool:
    return any(isinstance(name, str) and name.endswith(MASKED) for name in config.architectures or [])


def _known(files: dict[str, dict[str, Any]]) -> tuple[bool, bool]:
    """Whether transformers has code for the model and for the tokenizer of these files."""
    kind, tokenizer = files["config.json"].get("model_type"), files.get("tokenizer_config.json", {})
    known = isinstance(kind, str) and kind in CONFIG_MAPPING
    name = tokenizer.get("tokenizer_class")
    return known, (isinstance(name, str) and tokenizer_class_from_name(name) is not None) or (name is None and known)


def _tokenizer(weights: Weights, spec: ModelSpec) -> Any:
    with _reading(weights, "tokenizer", spec):
        return AutoTokenizer.from_pretrained(weights.folder, **_local(spec))


def _look_before(weights: Weights, spec: ModelSpec, config: PreTrainedConfig) -> None:
    """Build a model of an unusual kind without its weights, so that one that cannot write is refused before they are
    read."""
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is not None and not usual(kind, config):
        with _reading(weights, "configuration", spec), torch.device("meta"), no_init_weights():
            built = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        parts_of(built)


def _kind(config: PreTrainedConfig) -> Any:
    """The class that a model is read by. Some are saved with a config of their text model alone, from which the
    library finds no way back: they are read by the class of the library that the config names, if it fits."""
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        for name in filter(str.isidentifier, config.architectures or []):
            kind = getattr(transformers, name, None) if name.endswith(WRITERS[:2]) else None
            if getattr(kind, "config_class", None) is type(config):
                return kind
    return AutoModelForCausalLM


def _model(weights: Weights, spec: ModelSpec, kind: Any, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    with _reading(weights, "weights", spec):
        read: Any = kind.from_pretrained(weights.folder, dtype=dtype, output_loading_info=True, **_local(spec))
        model: PreTrainedModel = read[0].to(device).eval().requires_grad_(False)
    if missing := sorted(read[1]["missing_keys"]):
        # transformers would fill them with random numbers and carry on.
        raise UserError(
            f"{weights.name} lacks {len(missing)} of its tensors, the first being {missing[0]}; fetch it again"
        )
    return model


@contextmanager
def _reading(weights: Weights, part: str, spec: ModelSpec) -> Iterator[None]:
    """A library reads this part of a model."""
    with reading(lambda error: _refusal(weights, part, error, spec)):
        yield


def _local(spec: ModelSpec) -> dict[str, Any]:
    return {"local_files_only": True, "trust_remote_code": spec.trust_remote_code}


def _refusal(weights: Weights, part: str, error: BaseException, spec: ModelSpec) -> UserError:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return _too_large(weights, spec)
    if not spec.trust_remote_code and "trust_remote_code" in str(error):
        return _untrusted(weights)
    return UserError(
        f"the {part} of {weights.name} could not be read by transformers {transformers.__version__} "
        f"({said_by(error)}); if {weights.folder} is damaged, remove it and fetch the model again"
    )


def _unusable(weights: Weights, error: BaseException, spec: ModelSpec) -> UserError:
    """Each part could be read, and together they are of no model."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return _too_large(weights, spec)
    file = report_of(error)
    return UserError(
        f"{weights.name} cannot be used here ({type(error).__name__}: {said_by(error)}); if {weights.folder} is "
        f"damaged, remove it and fetch the model again{f'; {file} tells all that is known of it' if file else ''}"
    )


def _too_large(weights: Weights, spec: ModelSpec) -> UserError:
    return UserError(
        f"{weights.name} needs more memory than the device {spec.device} has; use --dtype bfloat16, another "
        "--device, or a smaller model"
    )


def _untrusted(weights: Weights) -> UserError:
    return UserError(
        f"{weights.name} brings Python code of its own, which is not run unasked; read the code in {weights.folder} "
        "and pass --trust-remote-code if you trust it"
    )


def _eos_ids(model: PreTrainedModel, name: str) -> list[int]:
    settings: GenerationConfig | None = model.generation_config
    ends = settings.eos_token_id if settings else None
    if ends is None:
        ends = getattr(model.config.get_text_config(decoder=True), "eos_token_id", None)
    return model_files.checked_ids(ends, "eos_token_id", name)


def _card(weights: Weights, model: PreTrainedModel, tokenizer: Tokenizer, architecture: Architecture) -> ModelCard:
    return ModelCard(
        name=weights.name,
        revision=weights.revision,
        source=weights.source,
        note=weights.note,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        n_layers=architecture.n_layers,
        n_heads=architecture.n_heads,
        n_kv_heads=architecture.n_kv_heads,
        d_model=architecture.d_model,
        vocab=architecture.vocab,
        context=architecture.context,
        layer_kinds=architecture.layer_kinds,
        windows=architecture.windows,
        attention=architecture.attention,
        has_chat_template=tokenizer.has_chat_template,
        versions={
            "tui_entropy": version("tui-entropy"),
            "transformers": transformers.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    )
