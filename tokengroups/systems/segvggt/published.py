"""Loading of the published SegVGGT checkpoints, those for ScanNetv2 and for ScanNet200."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tokengroups.checkpoint import adopt_state, map_checkpoint
from tokengroups.encoders.published import LICENCES
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.errors import UserError
from tokengroups.nn.limits import unfilled
from tokengroups.reading import shown
from tokengroups.systems.published import RELEASES, check_kind
from tokengroups.systems.segvggt.config import SegVGGTConfig
from tokengroups.systems.segvggt.network import SegVGGTNetwork

RELEASE = RELEASES["SegVGGT"]
NUM_CLASSES = (18, 198)  # of ScanNetv2 and of ScanNet200
LICENCE = LICENCES["SegVGGT"]
BRANCH = ("aggregator.instance_", "semantic_head.")
_QUERIES, _CLASSES = "aggregator.instance_query_token", "semantic_head.scratch.output_instance.2.weight"


def load_network(
    source: str | Path, encoder: VGGTConfig | None = None, config: SegVGGTConfig | None = None
) -> SegVGGTNetwork:
    """Load the network with a published checkpoint, frozen, mapped from the file; LoRA is not merged.

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
    tensors = map_checkpoint(path)
    check_kind(path, tensors, "SegVGGT", BRANCH)
    sizes = replace(encoder or VGGTConfig(), enable_point=False)
    with unfilled():
        network = SegVGGTNetwork(VGGT(sizes), _config(path, tensors, config))
    branch = {name: tensor for name, tensor in tensors.items() if name.startswith(BRANCH)}
    adopt_state(network.branch, branch, path)
    rest = {name: tensor for name, tensor in tensors.items() if name not in branch}
    adopt_state(network.encoder, rest, path)
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
