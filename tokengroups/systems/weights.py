"""Find, load and save the weight folders of systems.

A weight folder holds ``model.safetensors`` and ``config.json`` with ``system`` (a name in `SYSTEMS`), ``config`` (the
fields of its configuration class), ``encoder`` (the frozen encoder's source), ``postprocess`` (its default steps) and,
in newer ones, ``photos`` (`TrainingPhotos`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tokengroups.checkpoint import (
    CONFIG_FILE,
    adopt_state,
    find_weights,
    map_weights,
    read_config,
    save_weights,
    shipped_weights,
)
from tokengroups.config import build_config, config_to_dict
from tokengroups.encoders import load_encoder
from tokengroups.errors import UserError
from tokengroups.nn.limits import unfilled, weights_limit
from tokengroups.postprocess import StepSpec, build_steps, describe_steps
from tokengroups.reading import malformed, path_kind, shown
from tokengroups.registry import resolve
from tokengroups.systems.base import SceneSystem
from tokengroups.systems.inputs import TrainingPhotos
from tokengroups.systems.published import fetch, kind_of_file, kind_on_hub, may_be_on_hub, published_file

SYSTEMS = {
    "token_groups": "tokengroups.systems.token_groups:TokenGroups",
    "token_groups_tiny": "tokengroups.systems.token_groups_tiny:TokenGroupsTiny",
    "pixel_gaussians": "tokengroups.systems.pixel_gaussians:PixelGaussians",
    "iggt": "tokengroups.systems.iggt.iggt:IGGT",
    "iggt_tiny": "tokengroups.systems.iggt_tiny:IGGTTiny",
    "segvggt": "tokengroups.systems.segvggt.system:SegVGGT",
}
DEFAULT_WEIGHTS = "token_groups_tiny"
# Modules whose `load_published(source)` loads checkpoints as other authors published them, by their kind.
PUBLISHED = {
    "SegVGGT": "tokengroups.systems.segvggt.system",
    "IGGT": "tokengroups.systems.iggt.published",
    "VGGT": "tokengroups.systems.geometry_groups",
}


@dataclass(frozen=True)
class _Saved:
    """The content of a weight folder's ``config.json``."""

    system: str
    encoder: str
    config: dict[str, Any] = field(default_factory=dict)
    postprocess: tuple[StepSpec, ...] = ()
    photos: TrainingPhotos | None = None


def load_model(source: str | Path = DEFAULT_WEIGHTS, *, encoder: str | Path | None = None) -> SceneSystem:
    """Load a system with its encoder, in evaluation mode on the CPU.

    Args:
        source: Name of shipped weights, a weight folder, or a published checkpoint of VGGT, IGGT or SegVGGT: its file,
            the folder that holds it, or a hub id. What a file holds is told by its tensors. Weights of an encoder, such
            as VGGT's, make groups by geometry alone.
        encoder: Source of the encoder (see `load_encoder`); None = the one that the weights name, never from the hub.

    Raises:
        UserError: If there are no such weights, or they are damaged or do not fit their configuration.

    Example:
        >>> model = load_model("token_groups_tiny")
        >>> model.image_size
        128
    """
    folder = find_weights(source)
    content = {} if folder is None else read_config(folder)
    if folder is None or not content.keys() & {"system", "encoder"}:  # a copy of the hub's has another config.json
        return _load_published(source, encoder)
    where = f"{folder}/config.json"
    if "system" not in content:
        _refuse_encoder(source, encoder)
        return _for_inference(importlib.import_module(PUBLISHED["VGGT"]).on_encoder(folder))
    tensors, _ = map_weights(folder)
    system = _build(build_config(_Saved, content, where), tensors, where, encoder)
    adopt_state(system.network, tensors, folder)
    return _for_inference(system)


def _for_inference(system: SceneSystem) -> SceneSystem:
    system.lean = True
    return system.eval()


def _load_published(source: str | Path, encoder: str | Path | None) -> SceneSystem:
    """Load a checkpoint as other authors published it, or a weight folder on the hub."""
    kind = kind_on_hub(source)
    if not kind and path_kind(source) == "missing":
        if may_be_on_hub(source):
            return load_model(fetch(str(source)), encoder=encoder)
        known = ", ".join(shipped_weights())
        raise UserError(
            f"no weights '{shown(source)}': there is no such file or folder; give a weight folder, a file of published "
            f"weights, a hub id or one of the shipped names: {known}"
        )
    if not kind:
        source = published_file(source)
        kind = kind_of_file(source)
    _refuse_encoder(source, encoder)
    return _for_inference(importlib.import_module(PUBLISHED[kind]).load_published(source))


def _refuse_encoder(source: str | Path, encoder: str | Path | None) -> None:
    if encoder is not None:
        raise UserError(f"{shown(source)}: these weights have their own encoder; leave --encoder out")


def _build(saved: _Saved, tensors: Mapping[str, Tensor], where: str, other_encoder: str | Path | None) -> Any:
    """The untrained system of a weight folder. Its file names nothing that is imported or looked up for it alone."""
    beside = Path(where).parent / saved.encoder  # weights of a trained encoder lie in the folder itself
    source = str(beside if path_kind(beside / CONFIG_FILE) == "file" else saved.encoder)
    source = str(other_encoder or source)
    try:
        create = resolve(saved.system, SYSTEMS, "system", typed=False)
        encoder = load_encoder(source, typed=other_encoder is not None)
    except UserError as error:
        raise UserError(f"{shown(where)}: {error}") from None
    if SceneSystem not in getattr(create, "__mro__", ()):
        raise UserError(f"{where}: the system '{saved.system}' makes no scenes; give the weights of one that does")
    config = build_config(create.config_class, saved.config, where)
    steps = build_steps(saved.postprocess, where, typed=False)
    with malformed(where, "use the config that was saved with the weights"), weights_limit(tensors, where), unfilled():
        try:
            system = create(encoder, config, steps)
        except ValueError as error:
            raise UserError(f"{where}: {source} does not fit the model: {error}") from None
    system.encoder_source = source
    if saved.photos is not None:
        system.training_photos, system.image_size = saved.photos, saved.photos.size
    return system


def save_system(folder: Path, state: Mapping[str, Tensor], system: SceneSystem, config: Any, encoder: str) -> None:
    """Write a weight folder in half precision; `encoder` is the source of the encoder that it was trained on."""
    saved = {
        "system": system_name(type(system)),
        "config": config_to_dict(config),
        "encoder": encoder,
        "postprocess": describe_steps(system.steps),
    }
    if system.training_photos is not None:
        saved["photos"] = config_to_dict(system.training_photos)
    save_weights(folder, state, saved, half=True)


def system_name(kind: type) -> str:
    """The short name of a built-in system, ``package.module:Class`` of any other."""
    path = f"{kind.__module__}:{kind.__qualname__}"
    known = (name for name, where in SYSTEMS.items() if where.endswith(f":{kind.__name__}"))
    return next((name for name in known if resolve(name, SYSTEMS, "system") is kind), path)
