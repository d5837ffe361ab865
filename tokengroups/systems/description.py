"""What weights are, without loading them: told by names, shapes and types of tensors and by config.json."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tokengroups.checkpoint import SHIPPED, WEIGHTS_FILE, find_weights, map_checkpoint, read_config, read_tensors
from tokengroups.encoders.published import LICENCES, VGGT_IDS
from tokengroups.errors import UserError
from tokengroups.io.hub import cached_folder
from tokengroups.reading import path_kind, shown
from tokengroups.systems.published import RELEASES, kind_of_file, kind_on_hub, may_be_on_hub, published_file

# Bytes of the hub's files, for those that are not here yet.
_DOWNLOADS = {"VGGT": 5_026_367_224, "IGGT": 5_198_776_140, "SegVGGT": 6_617_883_817}
_SYSTEMS = {"VGGT": "geometry_groups", "IGGT": "iggt", "SegVGGT": "segvggt"}
_SHIPPED_LICENCE, _NO_LICENCE = "Apache-2.0, as the package", "none recorded; ask who trained them"


@dataclass(frozen=True)
class WeightsDescription:
    """Facts about weights; empty values are not known."""

    source: str
    path: str = ""  # of the tensors
    kind: str = ""  # "published VGGT", "system", "encoder"
    system: str = ""  # that `load_model` makes of it
    encoder: str = ""
    parameters: int = 0
    bytes: int = 0
    dtypes: tuple[str, ...] = ()  # the commonest first
    parts: Mapping[str, int] = field(default_factory=dict)  # parameters by the first part of their names: heads
    training_size: int | None = None
    square: bool | None = None
    classes: int = 0
    text_encoder: str = ""
    postprocess: tuple[str, ...] = ()
    licence: str = ""
    needs: str = ""


def describe_weights(source: str) -> WeightsDescription:
    """Describe what ``--weights`` takes: a shipped name, a weight folder, a checkpoint's file or folder, a hub id.

    Nothing is downloaded.

    Raises:
        UserError: There are no such weights, or unreadable ones.
    """
    folder = find_weights(source)
    content = {} if folder is None else read_config(folder)
    if folder is not None and content.keys() & {"system", "encoder"}:
        return _describe_own(source, folder, content)
    if kind := kind_on_hub(source):
        return _describe_on_hub(source, kind)
    if path_kind(source) == "missing":
        if not may_be_on_hub(source):
            raise UserError(f"no weights '{shown(source)}': there is no such name, file, folder or hub id")
        found = cached_folder(source)
        if found is None:
            raise UserError(f"'{shown(source)}' is not in the hub's cache; as --weights it would be downloaded")
        return describe_weights(str(found))
    path = published_file(source)
    return _describe_file(source, path, kind_of_file(path))


def _describe_on_hub(source: str, kind: str) -> WeightsDescription:
    """Facts of a published id, of the file itself where it is in the cache."""
    hub_id = source if source in VGGT_IDS else RELEASES[kind].hub_id
    found = cached_folder(hub_id)
    if found is not None:
        name = source[len(hub_id) + 1 :]
        return _describe_file(source, published_file(found / name if name else found), kind)
    size = _DOWNLOADS[kind]
    needs = f"a download of {size / 1e9:.1f} GB, and {_memory(size)}"
    return WeightsDescription(
        source, "", f"published {kind}, not downloaded", _SYSTEMS[kind], licence=LICENCES[kind], bytes=size, needs=needs
    )


def _describe_file(source: str, path: Path, kind: str) -> WeightsDescription:
    tensors = map_checkpoint(path, check=False)
    classes = 0
    if kind == "SegVGGT":
        last = tensors.get("semantic_head.scratch.output_instance.2.weight")
        classes = 0 if last is None else len(last) - 1
    return WeightsDescription(
        source,
        str(path),
        f"published {kind}",
        _SYSTEMS[kind],
        "vggt",
        classes=classes,
        licence=LICENCES[kind],
        **_facts(tensors),
    )


def _describe_own(source: str, folder: Path, content: Mapping[str, Any]) -> WeightsDescription:
    tensors = read_tensors(folder / WEIGHTS_FILE, check=False)
    config = content.get("config")
    config = config if isinstance(config, dict) else {}
    photos, steps = content.get("photos"), content.get("postprocess")
    photos = photos if isinstance(photos, dict) else {}
    steps = steps if isinstance(steps, list) else []
    names = [str(step.get("name", "")) if isinstance(step, dict) else str(step) for step in steps]
    text, facts = str(config.get("text_encoder") or ""), _facts(tensors)
    facts["needs"] += f"; the encoder '{content['encoder']}'" if "system" in content else ""
    facts["needs"] += "; the extra 'text' to find groups by text" if text else ""
    return WeightsDescription(
        source,
        str(folder),
        "system" if "system" in content else "encoder",
        str(content.get("system", "geometry_groups")),
        str(content.get("encoder", "")),
        training_size=photos.get("size", None if "system" in content else config.get("image_size")),
        square=photos.get("square"),
        classes=len(config.get("class_names") or ()),
        text_encoder=text,
        postprocess=tuple(names),
        licence=_licence(folder, str(content.get("encoder", ""))),
        **facts,
    )


def _licence(folder: Path, encoder: str) -> str:
    own = _SHIPPED_LICENCE if folder.parent == SHIPPED else _NO_LICENCE
    return f"{own}; {LICENCES['VGGT']}" if encoder in VGGT_IDS else own


def _facts(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Counts of the tensors."""
    parts: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    for name, tensor in tensors.items():
        parts[name.partition(".")[0]] += math.prod(tensor.shape)
        dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.nbytes
    size = sum(dtypes.values())
    return {
        "parameters": sum(parts.values()),
        "bytes": size,
        "dtypes": tuple(name for name, _ in dtypes.most_common()),
        "parts": dict(parts),
        "needs": _memory(size),
    }


def _memory(size: int) -> str:
    return f"{size / 1e9:.2g} GB of memory for the weights, more for photos"
