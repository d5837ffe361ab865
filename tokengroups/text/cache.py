"""Text embeddings on disk, so that nothing is encoded twice."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.checkpoint import read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.io.cache import cache_folder
from tokengroups.reading import path_kind, shown
from tokengroups.text.encoders import TextEncoder

EMBEDDING = "embedding"
_TOLERANCE = 1e-3  # of the length of an embedding


class EmbeddingCache:
    """A text encoder that keeps its embeddings; its name, which contains a hash of the weights, is the subfolder.

    A folder that cannot be written costs time, nothing else; a damaged or foreign file is written again.
    """

    def __init__(self, encoder: TextEncoder, folder: Path | None = None) -> None:
        self.encoder, self.name, self.dim = encoder, encoder.name, encoder.dim
        cache = cache_folder()
        root = folder or (cache and cache / "text")
        self.folder = root and root / encoder.name.replace(":", "-")  # None: there is no place for it

    def encode_text(self, texts: list[str]) -> Float[Tensor, "n D"]:
        """Embed texts; the encoder gets only new ones, in one call."""
        if self.folder is None:
            return self.encoder.encode_text(texts)
        files = [_file(self.folder, text) for text in texts]
        cached = {file: embedding for file in set(files) if (embedding := self._read(file)) is not None}
        new = {file: text for file, text in zip(files, texts, strict=True) if file not in cached}
        if new:
            for file, embedding in zip(new, self.encoder.encode_text(list(new.values())), strict=True):
                with contextlib.suppress(UserError, OSError):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_tensors(file, {EMBEDDING: embedding}, durable=False)
                cached[file] = embedding
        return torch.stack([cached[file] for file in files]) if files else torch.zeros(0, self.dim)

    def _read(self, file: Path) -> Tensor | None:
        """The unit vector in a file; None if it is missing, damaged or something else."""
        if path_kind(file) != "file":
            return None
        with contextlib.suppress(UserError, KeyError):
            embedding = read_tensors(file)[EMBEDDING]
            fits = embedding.shape == (self.dim,) and embedding.is_floating_point()
            if fits and abs(float(embedding.double().norm()) - 1) < _TOLERANCE:  # not if it holds NaN
                return embedding
        return None


def _file(folder: Path, text: str) -> Path:
    try:
        digest = hashlib.sha256(b"text\0" + text.encode()).hexdigest()
    except UnicodeEncodeError:
        raise UserError(f"the text '{shown(text)}' holds bytes that are no text in UTF-8; type it again") from None
    return folder / digest[:2] / f"{digest[2:]}.safetensors"
