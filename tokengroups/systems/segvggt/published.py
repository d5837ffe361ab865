"""Loading of the published SegVGGT checkpoints, those for ScanNetv2 and for ScanNet200."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tokengroups.checkpoint import load_state_strict
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.errors import UserError
from tokengroups.reading import path_kind, shown
from tokengroups.systems.published import SUFFIXES, Release, check_kind, mentions, read_state
from tokengroups.systems.segvggt.config import SegVGGTConfig
from tokengroups.systems.segvggt.network import SegVGGTNetwork

RELEASE = Release(
    "JinyuanQu/SegVGGT", ("checkpoint/segvggt_scannet200.pt", "checkpoint/segvggt_scannetv2.pt")
)  # fmt: skip
NUM_CLASSES = (18, 198)  # of ScanNetv2 and of ScanNet200
LICENCE = "SegVGGT's weights derive from VGGT-1B (CC BY-NC 4.0): for non-commercial research"
BRANCH = ("aggregator.instance_", "semantic_head.")
_QUERIES, _CLASSES = "aggregator.instance_query_token", "semantic_head.scratch.output_instance.2.weight"


def is_published(source: str | Path) -> bool:
    """True for the hub id, with or without a file, a folder with a published file, and a SegVGGT checkpoint."""
    if RELEASE.holds(source):
        return True
    return path_kind(source) == "file" and Path(source).suffix.lower() in SUFFIXES and mentions(source, BRANCH[1])


def load_network(
    source: str | Path, encoder: VGGTConfig | None = None, config: SegVGGTConfig | None = None
) -> SegVGGTNetwork:
    """Load the network with a published checkpoint, frozen, in float32, mapped from the file; LoRA is not merged.

    Args:
        source: The file, a folder that holds one, or the hub id, which means ScanNet200's unless a file follows it;
            the hub's cache is asked first, then the hub.
        encoder: Sizes of the VGGT; VGGT-1B if not given.
        config: Sizes of the branch; if not given, the published ones with the number of classes of the file.

    Raises:
        UserError: No such file, a damaged one, another number of queries or classes, or the checkpoint of another
            model; one line says which.
    """
    path = RELEASE.find(source)
    tensors = {name: tensor.float() for name, tensor in read_state(path, "a checkpoint of SegVGGT").items()}
    check_kind(path, tensors, "SegVGGT", BRANCH)
    sizes = replace(encoder or VGGTConfig(), enable_point=False)
    with torch.device("meta"):
        network = SegVGGTNetwork(VGGT(sizes), _config(path, tensors, config))
    branch = {name: tensor for name, tensor in tensors.items() if name.startswith(BRANCH)}
    load_state_strict(network.branch, branch, path, assign=True)
    rest = {name: tensor for name, tensor in tensors.items() if name not in branch}
    load_state_strict(network.encoder, rest, path, assign=True)
    network.encoder.freeze()
    return network.requires_grad_(False).eval()


def _config(path: Path, tensors: Mapping[str, Tensor], config: SegVGGTConfig | None) -> SegVGGTConfig:
    """The configuration with the file's number of classes; another number of queries or classes is refused."""
    wanted = config or SegVGGTConfig()
    possible = NUM_CLASSES if config is None else (config.num_classes,)
    queries, classes = (_side(tensors.get(name), axis) for name, axis in ((_QUERIES, 1), (_CLASSES, 0)))
    if queries not in (None, wanted.queries.number):
        raise UserError(f"{shown(path)}: a checkpoint of {queries} queries; this SegVGGT has {wanted.queries.number}")
    if not classes:  # names and shapes are compared later
        return wanted
    if classes - 1 not in possible:
        what = " or ".join(map(str, possible))
        raise UserError(f"{shown(path)}: a checkpoint of {classes - 1} classes; this SegVGGT has {what}")
    return replace(wanted, num_classes=classes - 1)


def _side(tensor: Tensor | None, axis: int) -> int | None:
    return None if tensor is None or tensor.ndim <= axis else tensor.shape[axis]
