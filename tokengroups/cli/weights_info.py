"""What `tokengroups info WEIGHTS` prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokengroups.cli.output import print_json, print_table
from tokengroups.reading import path_kind, shown


def names_weights(what: str) -> bool:
    """Whether the word can only be meant for weights: not a scene's file, nor a missing one."""
    from tokengroups.checkpoint import PICKLES, find_weights, read_metadata
    from tokengroups.errors import UserError
    from tokengroups.scene.file import FORMAT
    from tokengroups.systems.published import kind_on_hub, may_be_on_hub

    path, kind = Path(what), path_kind(what)
    if kind == "missing":
        return find_weights(what) is not None or bool(kind_on_hub(what)) or may_be_on_hub(what)
    if kind == "folder" or path.suffix.lower() in PICKLES or path.name.endswith(".index.json"):
        return True
    if kind != "file" or path.suffix.lower() != ".safetensors":
        return False
    try:
        return read_metadata(path).get("format") != FORMAT
    except UserError:
        return False  # the reader of scenes says what is wrong


def tell_weights(source: str, as_json: bool) -> None:
    """Print what weights are, their licence and what they need."""
    from tokengroups.systems.description import describe_weights

    found = describe_weights(source)
    if as_json:
        print_json(asdict(found))
        return
    rows: dict[str, Any] = {
        "file": found.path,
        "kind": found.kind,
        "system": found.system,
        "encoder": found.encoder,
        "parameters": f"{found.parameters:,}" if found.parameters else "",
        "of them": ", ".join(f"{name} {count:,}" for name, count in found.parts.items()),
        "stored as": ", ".join(found.dtypes),
        "size": f"{found.bytes / 1e6:,.1f} MB",
        "photos": _photos(found.training_size, found.square),
        "classes": found.classes or "",
        "text encoder": found.text_encoder,
        "post-processing": ", ".join(found.postprocess),
        "licence": found.licence,
        "needs": found.needs,
    }
    table = [[name, shown(value)] for name, value in rows.items() if value != ""]
    print_table(table, ["weights", shown(source)], {0, 1})


def _photos(size: int | None, square: bool | None) -> str:
    if size is None:
        return ""
    return f"{size}x{size}, squares" if square else f"{size} pixels"
