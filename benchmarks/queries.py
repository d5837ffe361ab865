"""Whether instance queries read the scene: AP as trained, on another room's tokens, and with uniform attention.

Run: ``python benchmarks/queries.py --weights W [--seeds 101 102 103] [--rooms 12] [--views 8] [--gaze around]
[--json FILE]``.

A dense head can draw masks for queries that ignore the photos, so that AP alone proves nothing. Here the queries read
the next room while the mask features stay right (``ap_swapped``), or attend to all tokens alike
(``ap_uniform``). Of queries whose mask has an IoU above 0.25 with an instance, ``frame_share`` is the attention on the
frames that show it, where some do not, and ``patch_share`` that on the patches of which it fills a quarter; beside
them what uniform attention would give. Means over layers and pairs, then over the seeds with Student's 95 % interval.
``seen`` is the share of the frames that show an instance, mean over the instances.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from einops import rearrange
from quality import print_rows
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from tokengroups.cli.main import guarded
from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import ProceduralRooms
from tokengroups.data.procedural.generate import Gaze
from tokengroups.errors import UserError
from tokengroups.evaluation.masks import GroupMasks, GroupOverlaps, group_overlaps, group_scores
from tokengroups.systems import load_model
from tokengroups.systems.segvggt.decode import exclusive_instances
from tokengroups.systems.segvggt.network import SegVGGTOutput
from tokengroups.systems.segvggt.queries import PLAIN, Reading
from tokengroups.systems.segvggt.system import SegVGGT

MODES = ("ap", "ap_swapped", "ap_uniform")
SHARES = ("frame_share", "frame_share_uniform", "patch_share", "patch_share_uniform")
LEAST_IOU, LEAST_FILLED = 0.25, 0.25


@dataclass(frozen=True)
class Room:
    """A room's photos and what the network makes of them."""

    example: Example
    images: Tensor  # [1, V, 3, H, W]
    found: SegVGGTOutput


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--rooms", type=int, default=12, help="of every seed, at least 2 (12)")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--gaze", choices=get_args(Gaze), default="centre", help="where the cameras look")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if min(args.rooms, args.views) < 2:
        raise UserError("give at least two rooms, since queries are swapped between them, and two photos of each")
    system = load_model(args.weights)
    if not isinstance(system, SegVGGT):
        raise UserError(f"{args.weights}: no instance queries; give weights of segvggt")
    runs = [measure_seed(system, args, seed) for seed in args.seeds]
    print_rows({name: np.array([run[name] for run in runs]) for name in runs[0]})
    if args.json is not None:
        means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        args.json.write_text(json.dumps({**means, "seeds": args.seeds, "runs": runs}, indent=1) + "\n")


def measure_seed(system: SegVGGT, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """All numbers of the rooms of one seed."""
    rooms = list(read_rooms(system, seed, args.rooms, args.views, args.gaze))
    pairs = zip(rooms, [*rooms[1:], rooms[0]], strict=True)
    bar = tqdm(pairs, desc=f"seed {seed}", total=len(rooms), unit="room", leave=False)
    return summary([measure_room(system, room, other) for room, other in bar])


@dataclass(frozen=True)
class RoomResult:
    """What was measured in one room."""

    overlaps: dict[str, GroupOverlaps]  # by mode
    shares: dict[str, list[float]]  # of matched queries
    seen: list[float]  # share of the frames that show each instance


def measure_room(system: SegVGGT, room: Room, other: Room) -> RoomResult:
    """Masks in all modes and shares of the attention; queries of the mode "swapped" are the other room's."""
    swapped = replace(room.found, queries=other.found.queries, class_logits=other.found.class_logits)
    uniform = segment(system, room.images, Reading(uniform=True))
    found = dict(zip(MODES, (room.found, swapped, uniform), strict=True))
    overlaps = {mode: overlaps_of(system, room, answer) for mode, answer in found.items()}
    return RoomResult(overlaps, attention_shares(system, room), frames_seen(room))


def summary(results: Sequence[RoomResult]) -> dict[str, float]:
    """AP of all rooms together, and means over the queries and instances of all rooms."""
    numbers: dict[str, float] = {}
    for mode in MODES:
        found = group_scores([result.overlaps[mode] for result in results])
        numbers |= {mode: found["ap_all"], f"{mode}_objects": found["ap_objects"]}
    numbers["ap50"] = group_scores([result.overlaps["ap"] for result in results])["ap50_all"]
    for name in SHARES:
        values = [value for result in results for value in result.shares[name]]
        numbers[name] = float(np.mean(values)) if values else float("nan")
    return numbers | {"seen": float(np.mean([share for result in results for share in result.seen]))}


@torch.no_grad()
def read_rooms(system: SegVGGT, seed: int, count: int, views: int, gaze: Gaze) -> Iterator[Room]:
    """The first test rooms of a seed."""
    plan = FramePlan(views)
    data = ProceduralRooms(
        None, num_frames=plan.length, size=system.image_size, seeds=(seed,), num_rooms=count, gaze=gaze
    )
    for index in data.splits["test"]:
        example = cut_example(data[index], plan)
        images = example.context.images[None]
        yield Room(example, images, segment(system, images))


@torch.no_grad()
def segment(system: SegVGGT, images: Tensor, reading: Reading = PLAIN) -> SegVGGTOutput:
    """Masks and classes of one room, read in some way."""
    return system.joint.encode(images, reading=reading)[1]


def overlaps_of(system: SegVGGT, room: Room, found: SegVGGTOutput) -> GroupOverlaps:
    """Overlaps of the exclusive masks with the true instances."""
    size_hw = (room.images.shape[-2], room.images.shape[-1])
    labels, kept = exclusive_instances(
        found.queries[0], found.features[0], found.class_logits[0], size_hw, system.decoding
    )
    masks = functional.one_hot(labels.flatten() + 1, len(kept.scores) + 1).bool().T[1:]
    predicted = GroupMasks(masks.numpy(), kept.scores.double().numpy())
    return group_overlaps(predicted, room.example.context.group_ids.numpy(), room.example.classes[0])


def attention_shares(system: SegVGGT, room: Room) -> dict[str, list[float]]:
    """Attention of matched queries on frames and patches that show their instance."""
    ids = room.example.context.group_ids
    instances = ids[ids >= 0].unique()
    patch, special = system.encoder.patch_size, system.joint.branch.aggregator.num_special
    masks = (ids[None] == instances[:, None, None, None]).float()  # [M, V, H, W]
    filled = rearrange(functional.avg_pool2d(masks, patch), "m v h w -> m v (h w)") >= LEAST_FILLED
    patches = functional.pad(filled.float(), (special, 0))  # special tokens show nothing
    frames = (masks.flatten(2).sum(-1) > 0).float()
    regions = torch.cat([patches, frames[:, :, None].expand_as(patches)])
    found = segment(system, room.images, Reading(regions=rearrange(regions, "g v p -> 1 v p g")))
    assert found.region_attention is not None
    attention = found.region_attention.mean(dim=0)[0]  # [Q, 2 M]
    grid = found.features.shape[2:4]
    small = functional.adaptive_avg_pool2d(masks, (grid[0], grid[1])).flatten(1) > 0.5
    mine = found.mask_logits()[0].flatten(1) > 0
    together = mine.float() @ small.float().T
    iou = together / (mine.sum(1)[:, None] + small.sum(1) - together).clamp(min=1)
    result: dict[str, list[float]] = {name: [] for name in SHARES}
    count = len(instances)
    for instance in range(count):
        query = int(iou[:, instance].argmax())
        if float(iou[query, instance]) <= LEAST_IOU:
            continue
        result["patch_share"].append(float(attention[query, instance]))
        result["patch_share_uniform"].append(float(patches[instance].mean()))
        if float(frames[instance].mean()) < 1:
            result["frame_share"].append(float(attention[query, count + instance]))
            result["frame_share_uniform"].append(float(frames[instance].mean()))
    return result


def frames_seen(room: Room) -> list[float]:
    """Share of the frames that show each instance."""
    ids = room.example.context.group_ids
    return [float((ids == instance).flatten(1).any(dim=1).float().mean()) for instance in ids[ids >= 0].unique()]


if __name__ == "__main__":
    raise SystemExit(guarded(main))
