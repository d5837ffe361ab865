"""Find, load and save the weight folders of encoders.

A weight folder holds ``model.safetensors`` and ``config.json`` with ``encoder`` (a name in `ENCODERS`) and ``config``
(the fields of its configuration class).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from tokengroups.checkpoint import find_weights, load_state_strict, load_weights, save_weights
from tokengroups.config import build_config, config_to_dict
from tokengroups.encoders.base import Encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig, load_official
from tokengroups.encoders.vggt_tiny import VGGTTiny, VGGTTinyConfig
from tokengroups.errors import UserError
from tokengroups.registry import resolve

ENCODERS: dict[str, tuple[type[VGGT], type[VGGTConfig]]] = {
    "vggt": (VGGT, VGGTConfig),
    "vggt_tiny": (VGGTTiny, VGGTTinyConfig),
}


def load_encoder(source: str | Path, *, typed: bool = True) -> Encoder:
    """Load an encoder with frozen weights, in evaluation mode on the CPU.

    Args:
        source: Name of shipped weights, a weight folder of ours, the published VGGT-1B weights as a safetensors file,
            their folder or a hub id such as "facebook/VGGT-1B", or ``package.module:Class`` of an encoder of your own.
        typed: Whether a user typed that; see `tokengroups.registry.resolve`.

    Raises:
        UserError: If there are no such weights, or they do not fit.
    """
    if ":" in str(source) and not Path(source).exists():
        own: Encoder = resolve(str(source), {}, "encoder", typed=typed)()
        if isinstance(own, nn.Module):
            own.requires_grad_(False).eval()
        return own  # pyright: ignore[reportReturnType] # narrowed to nn.Module alone
    return load_vggt(source)


def load_vggt(source: str | Path) -> VGGT:
    """Load a frozen VGGT or one of its relatives; arguments and errors as in `load_encoder`."""
    folder = find_weights(source)
    if folder is None:
        return load_official(source)
    tensors, saved = load_weights(folder)
    if "config" not in saved:  # a copy of the published folder has a config.json of its own
        return load_official(folder)
    name = saved.get("encoder")
    if "system" in saved or name not in ENCODERS:
        what = f"the system '{saved['system']}'" if "system" in saved else f"the encoder '{name}'"
        raise UserError(f"{folder} holds {what}; give the weights of an encoder: {', '.join(ENCODERS)}")
    network, config = ENCODERS[name]
    encoder = network(build_config(config, saved["config"], f"{folder}/config.json"))
    load_state_strict(encoder, tensors, folder)
    return encoder.freeze()


def save_encoder(folder: Path, state: Mapping[str, Tensor], config: VGGTConfig) -> None:
    """Write the weight folder of a VGGT or a relative in half precision, as `load_encoder` reads it."""
    name = next(name for name, (_, kind) in ENCODERS.items() if kind is type(config))
    save_weights(folder, state, {"encoder": name, "config": config_to_dict(config)}, half=True)


def freeze_unused(encoder: VGGT) -> None:
    """Freeze what no loss of geometry depends on: processes would wait for its gradients in vain."""
    for name, parameter in encoder.named_parameters():
        if name.endswith("mask_token") or name.startswith("single_view."):
            parameter.requires_grad_(False)
