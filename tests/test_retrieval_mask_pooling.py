"""Mask pooling against loops in float64, and embeddings of scenes from a toy encoder of colours."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import random_scene
from toy_teachers import Colours

from tokengroups import load_scene, render_views, save_scene
from tokengroups.errors import UserError
from tokengroups.postprocess import PhotoGroups, Reconstruction
from tokengroups.retrieval import (
    embed_groups,
    embed_reconstruction,
    find_groups,
    match_probabilities,
    name_groups,
    pool_masks,
    text_cosines,
)
from tokengroups.retrieval.mask_pooling import NEUTRAL_TEXTS
from tokengroups.scene.groups import columns_of


def loop_pool(features: list[np.ndarray], labels: list[np.ndarray], count: int) -> np.ndarray:
    """Pixel by pixel."""
    sums = np.zeros((count, len(features[0])))
    for cells, mask in zip(features, labels, strict=True):
        (_, h, w), (height, width) = cells.shape, mask.shape
        for i in range(height):
            for j in range(width):
                if mask[i, j] >= 0:
                    cell = cells[:, int((i + 0.5) * h / height), int((j + 0.5) * w / width)].astype(np.float64)
                    sums[mask[i, j]] += cell / np.linalg.norm(cell)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)


@pytest.mark.parametrize("cells", [(4, 6), (5, 7), (1, 1), (24, 36), (31, 29)])  # coarser, finer, no divisors
def test_pooling_is_a_loop_over_pixels(cells: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(5, *cells)).astype(np.float32) * rng.uniform(0.1, 9, cells) for _ in range(3)]
    features = [each.astype(np.float32) for each in features]
    labels = [rng.integers(-1, 4, (6, 9)).repeat(2, 0).repeat(2, 1) for _ in range(3)]
    labels[2][labels[2] == 3] = 0  # mask 3 is in two photos
    got = pool_masks(map(torch.from_numpy, features), map(torch.from_numpy, labels), 6)
    np.testing.assert_allclose(got, loop_pool(features, labels, 6), rtol=0, atol=1e-6)
    assert not got[4:].any()  # masks without a pixel
    torch.testing.assert_close(got[:4].norm(dim=1), torch.ones(4))


def test_photos_count_by_their_pixels() -> None:
    """Three pixels of one photo and one of another are not the mean of two photos."""
    features = [torch.tensor([1.0, 0.0]).view(2, 1, 1), torch.tensor([0.0, 5.0]).view(2, 1, 1)]
    labels = [torch.tensor([[0, 0, 0, -1]]), torch.tensor([[0, -1, -1, -1]])]
    expected = torch.tensor([3.0, 1.0]) / 10**0.5
    torch.testing.assert_close(pool_masks(features, labels, 1)[0], expected)


def test_features_that_cancel_are_unknown() -> None:
    cells = torch.tensor([[[0.3, -0.3]], [[0.1, -0.1]]])
    assert not pool_masks([cells], [torch.tensor([[0, 0]])], 1).any()
    assert not pool_masks([torch.zeros(2, 1, 1)], [torch.zeros(2, 2, dtype=torch.int64)], 1).any()
    with pytest.raises(ValueError, match="no photo"):
        pool_masks([], [], 1)


def test_one_photo_is_in_memory_at_a_time() -> None:
    alive: list[weakref.ref] = []

    def features() -> Iterator[torch.Tensor]:
        for index in range(60):
            assert sum(each() is not None for each in alive) <= 1
            photo = torch.full((4, 8, 8), float(index + 1))
            alive.append(weakref.ref(photo))
            yield photo
            del photo

    labels = (torch.zeros(32, 32, dtype=torch.int64) for _ in range(60))
    torch.testing.assert_close(pool_masks(features(), labels, 1), torch.full((1, 4), 0.5))


def coloured_scene():  # noqa: ANN201
    """Groups 5, 2 and 8, in this order, and photos in which they are green, red and blue."""
    scene = random_scene(groups=3, anchors_per_group=6)
    order = torch.tensor([1, 0, 2])
    scene = replace(
        scene, assignment=scene.assignment[:, order], group_ids=scene.group_ids[order],
        group_tokens=scene.group_tokens[order],
    )  # fmt: skip
    maps = [view.group_map for view in render_views(scene, scene.cameras)]
    colours = {5: (0, 1, 0), 2: (1, 0, 0), 8: (0, 0, 1), -1: (1, 1, 1)}
    table = torch.zeros(9 + 1, 3)
    for group, colour in colours.items():
        table[group] = torch.tensor(colour).float()
    return scene, maps, [table[each].permute(2, 0, 1) for each in maps]


class Sharp(Colours):
    """A feature for every pixel."""

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        return 7 * images


def test_groups_are_embedded_by_what_photos_show_of_them(tmp_path: Path) -> None:
    scene, _, photos = coloured_scene()
    embedded = embed_groups(scene, photos, Sharp())
    assert embedded.semantics is not None
    torch.testing.assert_close(embedded.semantics.embeddings, torch.eye(3)[[1, 0, 2]])
    save_scene(tmp_path / "a.safetensors", embedded)
    again = load_scene(tmp_path / "a.safetensors")
    assert again.semantics is not None and again.semantics.encoder == Colours.name
    assert again.semantics.residuals.shape == (18, 0) and again.semantics.projection.shape == (3, 0)
    names = ["red", "green", "blue"]
    texts = Colours().encode_text(names)
    assert [find_groups(again, text, 1)[0].id for text in texts] == [2, 5, 8]
    assert [label.name for label in name_groups(again, names, texts)] == ["green", "red", "blue"]


def test_coarse_features_are_the_loop_on_the_rendered_groups() -> None:
    scene, maps, photos = coloured_scene()
    embedded = embed_groups(scene, photos, Colours())
    features = [Colours().encode_images(photo[None])[0].numpy() for photo in photos]
    labels = [columns_of(scene, each).numpy() for each in maps]
    assert embedded.semantics is not None
    np.testing.assert_allclose(embedded.semantics.embeddings, loop_pool(features, labels, 3), rtol=0, atol=1e-6)


def test_probability_is_that_of_the_encoder_against_the_best_neutral_text() -> None:
    scene, _, photos = coloured_scene()
    semantics = embed_groups(scene, photos, Sharp()).semantics
    assert semantics is not None and Sharp().encode_text(list(NEUTRAL_TEXTS)).shape == (4, 3)
    cosines = text_cosines(semantics, Colours().encode_text(["red", "blue"]))
    got = match_probabilities(semantics, cosines)
    logits = 20.0 * torch.stack([cosines, torch.full_like(cosines, 3**-0.5)])  # every group is as near to grey
    torch.testing.assert_close(got, logits.softmax(dim=0)[0], rtol=1e-4, atol=1e-6)


def test_photos_own_masks_come_before_a_rendering() -> None:
    """Masks that say something else than the rendering, and one of a group that the scene dropped."""
    scene, maps, photos = coloured_scene()
    labels = torch.stack([torch.where(each == 5, 8, torch.where(each == 8, 5, 7)) for each in maps])
    groups = PhotoGroups(labels, torch.ones(9), torch.zeros(2, 1, *labels.shape[1:]))
    depth = torch.ones(labels.shape)
    made = Reconstruction(scene, depth, torch.zeros(18, 3, dtype=torch.int64), groups)
    semantics = embed_reconstruction(made, torch.stack(photos), Sharp()).scene.semantics
    assert semantics is not None
    torch.testing.assert_close(semantics.embeddings, torch.stack([torch.eye(3)[2], torch.zeros(3), torch.eye(3)[1]]))
    rendered = embed_reconstruction(replace(made, photo_groups=None), torch.stack(photos), Sharp()).scene.semantics
    assert rendered is not None
    torch.testing.assert_close(rendered.embeddings, torch.eye(3)[[1, 0, 2]])


def test_groups_without_an_embedding_have_no_name_and_match_nothing() -> None:
    scene, maps, photos = coloured_scene()
    hidden = [torch.where(each == 8, -1, each) for each in maps]
    embedded = embed_groups(scene, photos, Sharp(), hidden)
    texts = Colours().encode_text(["blue", "red"])
    labels = name_groups(embedded, ["blue", "red"], texts)
    assert [(label.name, label.probability == 0) for label in labels][1:] == [("red", False), ("", True)]
    assert {match.id: match.probability for match in find_groups(embedded, texts[0])}[8] == 0


def test_names_are_chosen_by_cosine_where_probabilities_are_all_one() -> None:
    scene, _, photos = coloured_scene()
    scene = embed_groups(scene, photos, Sharp())
    assert scene.semantics is not None
    sure = replace(scene.semantics, calibration=torch.tensor([1e4, -1.0]))
    labels = name_groups(replace(scene, semantics=sure), ["red", "green", "blue"], torch.eye(3))
    assert [(label.name, label.probability) for label in labels] == [("green", 1.0), ("red", 1.0), ("blue", 1.0)]


def test_every_context_view_needs_its_photo() -> None:
    scene, _, photos = coloured_scene()
    with pytest.raises(ValueError, match="argument 2 is longer"):
        embed_groups(scene, photos[:1], Sharp())


@pytest.mark.parametrize(
    "answer", [torch.zeros(1, 4, 2, 2), torch.zeros(2, 3, 2, 2), torch.zeros(3, 2, 2), torch.zeros(1, 3, 0, 2),
               torch.full((1, 3, 2, 2), torch.nan), None],
)  # fmt: skip
def test_an_encoder_that_returns_no_features_is_named(answer: torch.Tensor | None) -> None:
    class Broken(Colours):
        def encode_images(self, images: torch.Tensor):  # noqa: ANN202, ARG002
            return answer

    scene, _, photos = coloured_scene()
    with pytest.raises(UserError, match="the encoder 'toy_teachers:Colours:1' must return finite features") as caught:
        embed_groups(scene, photos, Broken())
    assert "\n" not in str(caught.value)
