"""Texts on the command line: vocabularies, and the text encoder of a scene's embeddings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from tokengroups.cli.output import note
from tokengroups.errors import UserError
from tokengroups.reading import check_text, shown

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.editing import EmbedText
    from tokengroups.retrieval import GroupLabel
    from tokengroups.text.cache import EmbeddingCache
    from tokengroups.types import TokenScene


def add_text_encoder_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--text-encoder``."""
    encoder_help = """minilm, or folder, hub id or package.module:Class of the encoder that made the embeddings
        (default: by its recorded name)"""
    parser.add_argument("--text-encoder", metavar="NAME|DIR|ID", help=encoder_help)


def parse_vocabulary(text: str) -> list[str]:
    """Split names at commas; repeated ones count once, with a note on stderr.

    Raises:
        UserError: There is no name.
    """
    names: dict[str, str] = {}
    repeated = []
    for name in filter(None, (" ".join(part.split()) for part in text.split(","))):
        if name.casefold() in names:
            repeated.append(name)
        names.setdefault(name.casefold(), name)
    if not names:
        raise UserError("the vocabulary has no name in it; write names with commas between: chair,table,floor")
    if repeated:
        note(f"the vocabulary names {shown(', '.join(repeated))} more than once; once counts")
    return [check_text(name) for name in names.values()]


@cache
def load_encoder(source: str) -> EmbeddingCache:
    """Load a text encoder that the user named, with its embeddings cached on disk; raises UserError if it cannot be."""
    from tokengroups.text import load_text_encoder
    from tokengroups.text.cache import EmbeddingCache

    return EmbeddingCache(load_text_encoder(source))


@cache
def load_encoder_for(name: str, source: str | None = None) -> EmbeddingCache:
    """Load the text encoder of a scene or of weights; its embeddings are cached on disk.

    Args:
        name: The encoder that made the embeddings, such as ``minilm:`` and a hash.
        source: Name, folder or hub id that the user gave; None = found by `name`.

    Raises:
        UserError: The encoder cannot be loaded, or is not the one of that name.
    """
    from tokengroups.text import load_text_encoder
    from tokengroups.text.cache import EmbeddingCache

    needed = f"the embeddings belong to the text encoder '{shown(name)}'"
    try:
        encoder = load_text_encoder(source or name.rpartition(":")[0] or name, typed=source is not None)
    except UserError as error:
        if source is not None or "no text encoder" not in str(error):
            raise
        raise UserError(f"{needed}; give its folder or hub id with --text-encoder DIR|ID") from error
    if encoder.name != name:
        raise UserError(f"{needed}, not to '{shown(encoder.name)}'; choose it with --text-encoder")
    return EmbeddingCache(encoder)


def embed(scene: TokenScene, source: str | None, texts: Sequence[str]) -> Tensor:
    """Embed texts as unit vectors [n, D] in the space of a scene's semantics.

    Raises:
        UserError: The scene has no semantics, or as in `load_encoder_for`.
    """
    from tokengroups.retrieval import semantics_of

    return load_encoder_for(semantics_of(scene).encoder, source).encode_text(list(texts))


def embedder(source: str | None) -> EmbedText:
    """Make the encoder of texts that edits and the viewer take; loads at the first text. Errors as in `embed`."""

    def embed_text(scene: TokenScene, text: str) -> Tensor:
        names = ", ".join(sorted({name for name in scene.group_names if name}))
        if names and scene.semantics is None:
            raise UserError(
                f"no group has the name '{shown(text)}': the scene has {shown(names)}, and no semantics for other "
                "texts (`tokengroups embed` adds some)"
            )
        return embed(scene, source, [check_text(text)])[0]

    return embed_text


def label_groups(scene: TokenScene, names: Sequence[str], source: str | None) -> list[GroupLabel]:
    """Choose the best of the names for every group, by column; errors as in `embed`."""
    from tokengroups.retrieval import name_groups

    return name_groups(scene, names, embed(scene, source, names))
