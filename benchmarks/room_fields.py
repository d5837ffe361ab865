"""Instance fields of held-out procedural rooms, by trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tokengroups.data.example import FramePlan, cut_example
from tokengroups.data.procedural import ProceduralRooms
from tokengroups.encoders.vggt.dpt_head import resize
from tokengroups.errors import UserError
from tokengroups.systems import load_model
from tokengroups.systems.iggt.system import InstanceFieldSystem


@torch.no_grad()
def room_fields(
    weights: str | Path, seed: int, rooms: int, views: int, root: str | None = None
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, field [V, E, H, W] and true ids [V, H, W] of the first test rooms of a seed, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    system = load_model(weights).to(device)
    if not isinstance(system, InstanceFieldSystem):
        raise UserError(f"{weights}: no instance field; give weights of iggt or iggt_tiny")
    plan = FramePlan(views)
    data = ProceduralRooms(root, num_frames=plan.length, size=system.image_size, seeds=(seed,), num_rooms=rooms)
    for index in data.splits["test"]:
        example = cut_example(data[index], plan)
        images, ids = example.context.images[None].to(device), example.context.group_ids.to(device)
        field = system.field(images, system.encode_batch(images))[0].float()
        yield example.names[0], resize(field, (ids.shape[-2], ids.shape[-1])), ids
