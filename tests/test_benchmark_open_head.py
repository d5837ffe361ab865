"""`benchmarks/open_head.py` on a made-up scene."""

from __future__ import annotations

from dataclasses import replace

import open_head
import torch
from scenes import random_scene

from tokengroups.data.example import Example
from tokengroups.postprocess import PhotoGroups, Reconstruction
from tokengroups.types import Semantics, Views


def test_names_by_the_open_and_by_the_closed_head() -> None:
    """Three instances, of which the second is unseen and the third is not found; a fourth group is nothing."""

    class Axes:
        name, dim = "axes:1", 4

        def encode_text(self, texts: list[str]) -> torch.Tensor:
            return torch.eye(4)[[("bed", "sofa", "wall", "").index(text) for text in texts]]

    texts = open_head.Texts(Axes(), ("bed", "sofa", "wall"), frozenset({"bed", "wall"}))
    ids = torch.tensor([[[4, 4, 4, 5, 5, 5, 5, 6, 6, -1]]])
    labels = torch.tensor([[[0, 0, 0, 2, 2, 2, -1, -1, 1, 1]]])
    assert open_head.match(labels, ids, 0.5) == {4: 0, 5: 2, 6: None}  # of 6 and its group a half is common, not more
    assert open_head.match(labels, ids, 0.49) == {4: 0, 5: 2, 6: 1}
    scene = random_scene(groups=4, anchors_per_group=3)
    ours = torch.tensor([[0.6, 0.5, 0, 0], [0, 0, 1, 0], [0, 0.8, 0.6, 0], [0, 0, 0, 0]])
    semantics = Semantics(
        ours, torch.zeros(12, 0), torch.zeros(4, 0), torch.tensor([10.0, 0.5]), encoder="axes:1"
    )  # fmt: skip
    scene = replace(scene, group_ids=torch.arange(4), group_names=("sofa", "wall", "wall", ""), semantics=semantics)
    context = Views(torch.zeros(1, 3, 1, 10), scene.cameras, torch.ones(1, 1, 10), ids)
    example = Example(context, context, ({4: "bed", 5: "sofa", 6: "wall"},), ("room",))
    groups = PhotoGroups(labels, torch.ones(3))
    made = Reconstruction(scene, torch.ones(1, 1, 10), torch.zeros(12, 3, dtype=torch.int64), groups)
    found = open_head.measure_room(made, example, texts, 0.5)
    assert found["naming_open_seen"] == found["naming_open_unseen"] == found["naming_open_among_unseen"] == [1.0]
    assert found["naming_closed_seen"] == found["naming_closed_unseen"] == [0.0]
    assert found["matched_seen"] == [1.0, 0.0] and found["matched_unseen"] == [1.0]
    assert found["matched_seen_objects"] == [1.0]
    assert found["retrieval_open_seen"] == found["retrieval_open_unseen"] == [1.0]
    assert found["retrieval_names_seen"] == [1.0]  # no group is called a bed: of equal ones the first is taken
    assert found["retrieval_names_unseen"] == [0.0]  # the first group is called a sofa
    assert found["retrieval_chance_unseen"] == [0.25]
