"""What the commands that take words share: vocabularies, and the text encoder that a scene's embeddings belong to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from tokengroups.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.retrieval import GroupLabel
    from tokengroups.text.cache import EmbeddingCache
    from tokengroups.types import TokenScene

LONGEST_TEXT = 2000  # characters; encoders read some 60 to 250 words


def add_text_encoder_option(parser: argparse.ArgumentParser) -> None:
    """Declare ``--text-encoder``."""
    parser.add_argument(
        "--text-encoder",
        metavar="NAME|DIR|ID",
        help="minilm, or the folder or hub id of the encoder that the scene's embeddings belong to "
        "(default: the one the scene names)",
    )


def parse_vocabulary(text: str) -> list[str]:
    """Names of a comma-separated list; names given twice count once, which is said on stderr.

    Raises:
        UserError: No name in it.
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
        print(f"note: the vocabulary names {', '.join(repeated)} more than once; once counts", file=sys.stderr)
    return [check_text(name) for name in names.values()]


def check_text(text: str) -> str:
    """The text without space around it.

    Raises:
        UserError: Nothing is left, or it is longer than any encoder reads.
    """
    text = " ".join(text.split())
    if not text:
        raise UserError("the text is empty; say what to look for, e.g. 'a place to sit'")
    if len(text) > LONGEST_TEXT:
        raise UserError(
            f"the text has {len(text):,} characters; encoders read the first sentences only: "
            f"give at most {LONGEST_TEXT:,}"
        )
    return text


@cache
def load_encoder_for(name: str, source: str | None = None) -> EmbeddingCache:
    """The cached text encoder of a scene or of weights.

    Args:
        name: What the embeddings name as their encoder, ``minilm:`` and a hash.
        source: What the user chose instead; checked against `name`.

    Raises:
        UserError: It cannot be loaded, or it is another one.
    """
    from tokengroups.text import load_text_encoder
    from tokengroups.text.cache import EmbeddingCache

    family = name.partition(":")[0]
    try:
        encoder = load_text_encoder(source or family)
    except UserError as error:
        if source is not None or "no text encoder" not in str(error):
            raise
        raise UserError(
            f"the embeddings belong to the text encoder '{name}'; say where it is with --text-encoder DIR|ID"
        ) from error
    if encoder.name != name:
        raise UserError(
            f"the embeddings belong to the text encoder '{name}', not to '{encoder.name}'; "
            "choose it with --text-encoder"
        )
    return EmbeddingCache(encoder)


def embed(scene: TokenScene, source: str | None, texts: Sequence[str]) -> Tensor:
    """Unit embeddings [n, D] of texts in the space of a scene's semantics.

    Raises:
        UserError: The scene has none, or the encoder cannot be loaded or is another one.
    """
    from tokengroups.retrieval import semantics_of

    return load_encoder_for(semantics_of(scene).encoder, source).encode_text(list(texts))


def label_groups(scene: TokenScene, names: Sequence[str], source: str | None) -> list[GroupLabel]:
    """The best of the names for every group, column by column; errors as in `embed`."""
    from tokengroups.retrieval import name_groups

    return name_groups(scene, names, embed(scene, source, names))
