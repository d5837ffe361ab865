"""What kind of published weights a checkpoint holds, told by its names, and the licence of each kind."""

from __future__ import annotations

from collections.abc import Collection

VGGT_IDS = ("facebook/VGGT-1B", "facebook/VGGT-1B-Commercial")  # on the hub
# The names of a kind's tensors begin with all of these. The first kind that fits counts: later ones are parts of it.
KINDS = {
    "SegVGGT": ("aggregator.instance_", "semantic_head."),
    "IGGT": ("part_adaptor.", "part_head."),
    "VGGT": ("aggregator.", "camera_head.", "depth_head."),
}
LICENCES = {
    "SegVGGT": "SegVGGT's weights derive from VGGT-1B (CC BY-NC 4.0): for non-commercial research",
    "IGGT": "IGGT's weights derive from VGGT-1B (CC BY-NC 4.0): for non-commercial research",
    "VGGT": "VGGT-1B's weights are under CC BY-NC 4.0, those of VGGT-1B-Commercial under the VGGT license",
}


def kind_of(names: Collection[str]) -> str:
    """A key of `KINDS`; "" = none of them."""
    for kind, parts in KINDS.items():
        if all(any(name.startswith(part) for name in names) for part in parts):
            return kind
    return ""


def article(kind: str) -> str:
    """The kind with its article."""
    return f"{'an' if kind[0] in 'AEIO' else 'a'} {kind}"
