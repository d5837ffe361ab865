"""Find, load and save the weight folders of encoders.

A weight folder holds ``model.safetensors`` and ``config.json`` with ``encoder`` (a name in `ENCODERS`) and ``config``
(the fields of its configuration class).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokengroups.checkpoint import adopt_state, find_weights, map_weights, read_config, save_weights
from tokengroups.config import build_config, config_to_dict
from tokengroups.encoders.base import Encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig, load_official
from tokengroups.encoders.vggt_tiny import VGGTTiny, VGGTTinyConfig
from tokengroups.errors import UserError
from tokengroups.nn.limits import unfilled, weights_limit
from tokengroups.reading import malformed, path_kind, shown
from tokengroups.registry import resolve

ENCODERS: dict[str, tuple[type[VGGT], type[VGGTConfig]]] = {
    "vggt": (VGGT, VGGTConfig),
    "vggt_tiny": (VGGTTiny, VGGTTinyConfig),
}


def load_encoder(source: str | Path, *, typed: bool = True) -> Encoder:
    """Load an encoder with frozen weights, in evaluation mode on the CPU.

    Args:
        source: Name of shipped weights, a weight folder of ours, the published VGGT-1B weights as a file, their folder
            or a hub id such as "facebook/VGGT-1B", or ``package.module:Class`` of an encoder of your own.
        typed: Whether the user typed the source. A name from a file imports nothing (see
            `tokengroups.registry.resolve`), and is never looked up on the hub.

    Raises:
        UserError: If there are no such weights, or they do not fit.

    Example:
        >>> import torch
        >>> from tokengroups.encoders import load_encoder
        >>> encoder = load_encoder("vggt_tiny")
        >>> geometry = encoder.encode(torch.rand(1, 2, 3, 64, 64))  # scenes, views, channels, height, width
        >>> geometry.depth.shape, geometry.cameras.cam_from_world.shape
        (torch.Size([1, 2, 64, 64]), torch.Size([1, 2, 4, 4]))
        >>> sorted(encoder.evidence_dims)
        ['match_descriptors', 'pair_affinity', 'single_view_features']
    """
    if ":" in str(source) and path_kind(source) == "missing":
        return _build(str(source), typed)
    return load_vggt(source, typed=typed)


def _build(name: str, typed: bool) -> Encoder:
    kind = resolve(name, {}, "encoder", typed=typed)
    # A file may name whatever is imported, such as os:abort: only a class that encodes is called.
    own: Any = kind() if isinstance(kind, type) and hasattr(kind, "encode") else kind
    if not isinstance(own, Encoder):
        parts = ("image_size", "patch_size", "feature_dim", "evidence_dims", "encode")
        lacks = ", ".join(part for part in parts if not hasattr(own, part))
        raise UserError(f"encoder {shown(name)}: its class lacks {lacks}; see tokengroups.encoders.Encoder")
    if isinstance(own, nn.Module):
        own.requires_grad_(False).eval()
    return own  # pyright: ignore[reportReturnType] # narrowed to nn.Module alone


def load_vggt(source: str | Path, *, typed: bool = True) -> VGGT:
    """Load a frozen VGGT or one of its relatives; arguments and errors as in `load_encoder`."""
    folder = find_weights(source)
    if folder is None:
        return load_official(source, typed=typed)
    saved = read_config(folder)
    if "config" not in saved:  # a copy of the published folder has a config.json of its own
        return load_official(folder)
    tensors, _ = map_weights(folder)
    name, values, where = str(saved.get("encoder", "")), saved["config"], f"{folder}/config.json"
    if "system" in saved or name not in ENCODERS:
        what = f"the system '{shown(saved['system'])}'" if "system" in saved else f"the encoder '{shown(name)}'"
        raise UserError(f"{folder} holds {what}; give the weights of an encoder: {', '.join(ENCODERS)}")
    if not isinstance(values, dict):
        raise UserError(f"{where}: the key 'config' must hold a JSON object; get a fresh copy")
    network, config = ENCODERS[name]
    with malformed(where, "get a fresh copy"), weights_limit(tensors, where), unfilled():
        encoder = network(build_config(config, values, where))
    adopt_state(encoder, tensors, folder)
    return encoder.freeze()


def save_encoder(folder: Path, state: Mapping[str, Tensor], config: VGGTConfig) -> None:
    """Write the weight folder of a VGGT or a relative in half precision, as `load_encoder` reads it."""
    name = next(name for name, (_, kind) in ENCODERS.items() if kind is type(config))
    save_weights(folder, state, {"encoder": name, "config": config_to_dict(config)}, half=True)


def place_encoder(encoder: Encoder, device: torch.device, *, lean: bool = False) -> None:
    """Move an encoder to a device; `lean`: `hold_in_half` first, where the device is a GPU that computes in it."""
    if isinstance(encoder, nn.Module):
        if lean and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            hold_in_half(encoder)
        encoder.to(device)


def hold_in_half(encoder: nn.Module) -> None:
    """Hold the trunk of a frozen VGGT in bfloat16, if that suits its weights and is not done yet."""
    if isinstance(encoder, VGGT) and encoder.half_suits and not encoder.in_half:
        encoder.hold_in_half()


def approximate(encoder: Any) -> None:
    """Let an encoder approximate attention among many photos; scenes record it as ``fast`` = true.

    Raises:
        UserError: The encoder has no such mode.
    """
    if not hasattr(encoder, "fast"):
        raise UserError(f"--fast: the encoder {type(encoder).__name__} has no approximate mode; leave the option out")
    encoder.fast = True


def freeze_unused(encoder: VGGT) -> None:
    """Freeze what no loss of geometry depends on: processes would wait for its gradients in vain."""
    for name, parameter in encoder.named_parameters():
        if name.endswith("mask_token") or name.startswith("single_view."):
            parameter.requires_grad_(False)
