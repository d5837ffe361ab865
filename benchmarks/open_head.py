"""Names for instances by SegVGGT's open class head and by its closed one, for names that training had and had not.

Run: ``python benchmarks/open_head.py --weights W [--seeds 101 102 103] [--rooms 12] [--views 8] [--iou 0.5]
[--json FILE]``.

Photos of held-out procedural rooms become scenes in one forward pass. Instances that a group finds with an IoU above
0.5, or `--iou`, are counted: ``seen`` = those of the weights' class names, ``seen_objects`` = these without walls,
floors and ceilings, ``unseen`` = those of the rooms' other classes.

- ``naming_open_*``: share whose right name has the largest cosine among all class names of the rooms (by chance one in
  their number); ``naming_open_among_unseen``: of unseen ones, among the unseen names alone.
- ``naming_closed_*``: share that the closed head names rightly. It has no channel for unseen names: 0 by construction.
- ``retrieval_open_*``: share of the names of these instances for which the best answer of a query (`find_groups`) is a
  group of that name. ``retrieval_names_*``: the same with the text embedding of the closed head's name in place of the
  group's embedding: what similarity of words alone gives. ``retrieval_chance_*``: a group at random.
- ``matched_*`` of ``instances_*``: numbers of instances.

Means over the instances of a seed, then over the seeds with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from quality import print_rows
from torch import Tensor
from tqdm import tqdm

from tokengroups.cli.main import guarded
from tokengroups.data.example import Example, FramePlan, cut_example
from tokengroups.data.procedural import ProceduralRooms
from tokengroups.errors import UserError
from tokengroups.evaluation.masks import STRUCTURE_CLASSES
from tokengroups.postprocess import Reconstruction
from tokengroups.retrieval import best_names, find_groups, semantics_of
from tokengroups.scene.groups import columns_of
from tokengroups.systems import load_model
from tokengroups.systems.segvggt.system import SegVGGT
from tokengroups.text import TextEncoder, load_text_encoder
from tokengroups.text.cache import EmbeddingCache
from tokengroups.types import TokenScene


@dataclass(frozen=True)
class Texts:
    """Embeddings of the rooms' class names, in the space of the weights."""

    encoder: TextEncoder | EmbeddingCache
    names: tuple[str, ...]
    seen: frozenset[str]

    def embed(self, names: Sequence[str]) -> Float[Tensor, "n D"]:
        """Embeddings of some names; zero for the empty one."""
        known = self.encoder.encode_text(list(names))
        return known * torch.tensor([[bool(name)] for name in names])

    def kinds(self, name: str) -> list[str]:
        """The kinds of instances that one of this name belongs to."""
        if name not in self.seen:
            return ["unseen"]
        return ["seen"] if name in STRUCTURE_CLASSES else ["seen", "seen_objects"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--rooms", type=int, default=12, help="of every seed")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--iou", type=float, default=0.5, help="an instance is found above it")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    system = load_model(args.weights)
    if not isinstance(system, SegVGGT) or not system.text_encoder:
        raise UserError(
            f"{args.weights}: no open class head; give weights of segvggt with one (model.network.open_head)"
        )
    encoder = EmbeddingCache(load_text_encoder(system.text_encoder.rpartition(":")[0]))
    texts = Texts(encoder, ProceduralRooms.class_names, frozenset(system.config.class_names))
    runs = [measure_seed(system, texts, args, seed) for seed in args.seeds]
    print_rows({name: np.array([run[name] for run in runs]) for name in runs[0]})
    if args.json is not None:
        means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        unseen = [name for name in texts.names if name not in texts.seen]
        args.json.write_text(
            json.dumps({**means, "unseen": unseen, "seeds": args.seeds, "runs": runs}, indent=1) + "\n"
        )


def measure_seed(system: SegVGGT, texts: Texts, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """All numbers of the rooms of one seed; NaN where nothing is measured."""
    plan = FramePlan(args.views)
    data = ProceduralRooms(None, num_frames=plan.length, size=system.image_size, seeds=(seed,), num_rooms=args.rooms)
    found: dict[str, list[float]] = {}
    for index in tqdm(data.splits["test"], desc=f"seed {seed}", unit="room", leave=False):
        example = cut_example(data[index], plan)
        for name, values in measure_room(system.predict(example.context.images), example, texts, args.iou).items():
            found.setdefault(name, []).extend(values)
    numbers = {}
    for kind in ("seen", "seen_objects", "unseen"):
        for what in ("naming_open", "naming_closed", "retrieval_open", "retrieval_names", "retrieval_chance"):
            numbers[f"{what}_{kind}"] = float(np.mean(found.get(f"{what}_{kind}") or [np.nan]))
        numbers[f"matched_{kind}"] = float(sum(found.get(f"matched_{kind}", [])))
        numbers[f"instances_{kind}"] = float(len(found.get(f"matched_{kind}", [])))
    numbers["naming_open_among_unseen"] = float(np.mean(found.get("naming_open_among_unseen") or [np.nan]))
    return numbers


def measure_room(made: Reconstruction, example: Example, texts: Texts, least_iou: float) -> dict[str, list[float]]:
    """For every number: 1 or 0 for every instance, or for every name of instances."""
    scene, classes = made.scene, example.classes[0]
    assert made.photo_groups is not None
    pairs = match(columns_of(scene, made.photo_groups.labels), example.context.group_ids, least_iou)
    found: dict[str, list[float]] = {}

    def add(what: str, name: str, value: float) -> None:
        for kind in texts.kinds(name):
            found.setdefault(f"{what}_{kind}", []).append(value)

    embeddings = semantics_of(scene).embeddings
    chosen = best_names(embeddings, texts.embed(texts.names))
    unseen = [name for name in texts.names if name not in texts.seen]
    among_unseen = best_names(embeddings, texts.embed(unseen)) if unseen else None
    for instance, column in pairs.items():
        if instance not in classes:
            continue
        name = classes[instance]
        add("matched", name, float(column is not None))
        if column is None:
            continue
        add("naming_open", name, float(texts.names[int(chosen[column])] == name))
        add("naming_closed", name, float(scene.group_names[column] == name))
        if name in unseen and among_unseen is not None:
            found.setdefault("naming_open_among_unseen", []).append(float(unseen[int(among_unseen[column])] == name))
    named = replace_embeddings(scene, texts.embed(scene.group_names))
    for name in sorted({classes[i] for i, column in pairs.items() if column is not None and i in classes}):
        right = {column for i, column in pairs.items() if column is not None and classes.get(i) == name}
        add("retrieval_open", name, float(answer(scene, texts, name) in right))
        add("retrieval_names", name, float(answer(named, texts, name) in right))
        add("retrieval_chance", name, len(right) / len(scene.group_ids))
    return found


def match(columns: Int64[Tensor, "V H W"], ids: Int64[Tensor, "V H W"], least_iou: float) -> dict[int, int | None]:
    """Column of the group with the largest IoU above the least one for every true instance; None = there is none."""
    instances, count = ids[ids >= 0].unique(), int(columns.max()) + 1
    pairs: dict[int, int | None] = {}
    for instance in instances.tolist():
        own = ids == instance
        common = torch.bincount(columns[own & (columns >= 0)], minlength=count)
        labelled = torch.bincount(columns[(ids >= 0) & (columns >= 0)], minlength=count)
        iou = common / (labelled + own.sum() - common)
        best = int(iou.argmax()) if count else -1
        pairs[instance] = best if count and float(iou[best]) > least_iou else None
    return pairs


def answer(scene: TokenScene, texts: Texts, name: str) -> int:
    """Column of the best answer to a name."""
    (best,) = find_groups(scene, texts.embed([name])[0], top=1)
    return scene.group_ids.tolist().index(best.id)


def replace_embeddings(scene: TokenScene, embeddings: Float[Tensor, "L D"]) -> TokenScene:
    """The scene with other embeddings of its groups."""
    return replace(scene, semantics=replace(semantics_of(scene), embeddings=embeddings))


if __name__ == "__main__":
    raise SystemExit(guarded(main))
