"""Embeddings kept on disk under a hash of what they embed, so that nothing is encoded twice."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.checkpoint import read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.io.files import cache_folder
from tokengroups.text.encoders import ImageTeacher, TextEncoder

EMBEDDING = "embedding"


class EmbeddingCache:
    """Text and image embeddings of one encoder; its name, which holds a hash of the weights, is the subfolder.

    A folder that cannot be written costs time, nothing else; a damaged file is made anew.
    """

    def __init__(self, encoder: TextEncoder, folder: Path | None = None) -> None:
        self.encoder = encoder
        self.folder = (folder or cache_folder() / "text") / encoder.name.replace(":", "-")

    def encode_text(self, texts: list[str]) -> Float[Tensor, "n D"]:
        """As the encoder's; only texts never seen before reach it, all at once."""
        files = [self._file(b"text", text.encode()) for text in texts]
        known = {file: embedding for file in set(files) if (embedding := self._read(file)) is not None}
        new = {file: text for file, text in zip(files, texts, strict=True) if file not in known}
        if new:
            for file, embedding in zip(new, self.encoder.encode_text(list(new.values())), strict=True):
                self._write(file, embedding)
                known[file] = embedding
        return torch.stack([known[file] for file in files]) if files else torch.zeros(0, self.encoder.dim)

    def encode_images(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """As the encoder's, image by image.

        Raises:
            UserError: The encoder has never seen an image.
        """
        if not isinstance(self.encoder, ImageTeacher):
            raise UserError(f"the text encoder '{self.encoder.name}' cannot encode images; use CLIP or SigLIP")
        encode = self.encoder.encode_images
        return torch.stack([self._one(image, lambda one: encode(one[None])[0]) for image in images])

    def _one(self, image: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        content = image.detach().float().cpu().contiguous()
        file = self._file(b"image", repr(tuple(content.shape)).encode(), content.numpy().tobytes())
        embedding = self._read(file)
        if embedding is None:
            embedding = encode(image)
            self._write(file, embedding)
        return embedding

    def _file(self, *parts: bytes) -> Path:
        digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}.safetensors"

    def _read(self, file: Path) -> Tensor | None:
        if not file.is_file():
            return None
        with contextlib.suppress(UserError, KeyError):
            return read_tensors(file)[EMBEDDING]
        return None

    def _write(self, file: Path, embedding: Tensor) -> None:
        with contextlib.suppress(UserError, OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(file, {EMBEDDING: embedding.contiguous()})
