"""Finding, loading and saving weight folders of encoders and models.

A weight folder holds ``model.safetensors`` and ``config.json`` with ``model`` ("vggt" or "token_groups"), ``config``
(the fields of its config class) and, for token groups, ``encoder``: where the frozen encoder comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tokengroups.checkpoint import load_state_strict, load_weights, save_weights
from tokengroups.config import build_config, config_to_dict
from tokengroups.encoders.vggt import VGGT, VGGTConfig, load_official
from tokengroups.errors import UserError
from tokengroups.systems.token_groups.decoder import TokenGroupsConfig
from tokengroups.systems.token_groups.system import TokenGroups

SHIPPED = Path(__file__).parent.parent / "weights"
DEFAULT_WEIGHTS = "token_groups_tiny"


def shipped_weights() -> list[str]:
    """Names of the weight folders that come with the package."""
    return sorted(folder.parent.name for folder in SHIPPED.glob("*/config.json"))


def find_weights(source: str | Path) -> Path | None:
    """The weight folder of a shipped name or a path; None if there is none."""
    for folder in (SHIPPED / str(source), Path(source)):
        if (folder / "config.json").is_file():
            return folder
    return None


def load_model(source: str | Path = DEFAULT_WEIGHTS) -> TokenGroups:
    """Load token groups with their encoder, in evaluation mode on the CPU.

    Args:
        source: Name of shipped weights or a weight folder.

    Raises:
        UserError: If there are no such weights, or they are of another model, damaged, or do not fit their config.
    """
    folder = find_weights(source)
    if folder is None:
        raise UserError(
            f"no weights '{source}': give a weight folder or one of the shipped names: {', '.join(shipped_weights())}"
        )
    tensors, saved = load_weights(folder)
    config = _saved_config(TokenGroupsConfig, "token_groups", saved, folder)
    if "encoder" not in saved:
        raise UserError(f"{folder}/config.json names no encoder; add the name or folder of its VGGT weights")
    model = TokenGroups(load_encoder(saved["encoder"]), config)
    load_state_strict(model.decoder, tensors, folder)
    return model.eval()


def load_encoder(source: str | Path) -> VGGT:
    """Load a frozen VGGT.

    Args:
        source: Name of shipped weights, a weight folder of ours, or the published VGGT-1B weights as a safetensors
            file, their folder or a hub id such as "facebook/VGGT-1B".

    Raises:
        UserError: If there are no such weights, or they do not fit.
    """
    folder = find_weights(source)
    if folder is None:
        return load_official(source)
    tensors, saved = load_weights(folder)
    if "model" not in saved:  # a copy of the published folder has a config.json of its own
        return load_official(folder)
    encoder = VGGT(_saved_config(VGGTConfig, "vggt", saved, folder))
    load_state_strict(encoder, tensors, folder)
    return encoder.freeze()


def save_encoder(folder: Path, state: Mapping[str, Tensor], config: VGGTConfig) -> None:
    """Write the weight folder of a VGGT in half precision, as `load_encoder` reads it."""
    save_weights(folder, state, {"model": "vggt", "config": config_to_dict(config)}, half=True)


def save_decoder(folder: Path, state: Mapping[str, Tensor], config: TokenGroupsConfig, encoder: str) -> None:
    """Write the weight folder of token groups in half precision; `encoder` names the VGGT they were trained on."""
    saved = {"model": "token_groups", "config": config_to_dict(config), "encoder": encoder}
    save_weights(folder, state, saved, half=True)


def _saved_config(cls: type, model: str, saved: Mapping[str, Any], folder: Path) -> Any:
    if saved.get("model") != model:
        raise UserError(
            f"{folder} holds weights of '{saved.get('model')}', not of '{model}'; give other weights"
        )
    return build_config(cls, saved.get("config", {}), f"{folder}/config.json")
