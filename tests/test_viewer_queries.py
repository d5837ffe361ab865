"""Groups that a text means."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scenes import random_scene

import tokengroups as tg
from tokengroups.errors import UserError
from tokengroups.types import TokenScene
from tokengroups.viewer.queries import can_ask, find


def test_by_embeddings_probabilities_are_those_of_the_definition() -> None:
    """Float64 loop; a group without an embedding comes last, with probability 0."""
    scene = random_scene(groups=6, semantic_dim=8)
    assert scene.semantics is not None
    embeddings = scene.semantics.embeddings.clone()
    embeddings[4] = 0
    scene = replace(scene, semantics=replace(scene.semantics, embeddings=embeddings))
    text = torch.nn.functional.normalize(embeddings[1] + 0.5 * embeddings[3], dim=0)
    found = find(scene, "thing 0", lambda _scene, _text: text)  # semantics come before names
    assert found.encoder == "words:1"
    slope, threshold = scene.semantics.calibration.double().tolist()
    expected = []
    for column, group in enumerate(scene.group_ids.tolist()):
        cosine = sum(a * b for a, b in zip(embeddings[column].tolist(), text.tolist(), strict=True))
        probability = 1 / (1 + torch.tensor(-slope * (cosine - threshold)).double().exp().item())
        expected.append((group, probability if column != 4 else 0.0, cosine))
    expected.sort(key=lambda match: -match[2])
    assert [group for group, _ in found.matches] == [group for group, *_ in expected]
    for (_, probability), (_, wanted, _) in zip(found.matches, expected, strict=True):
        assert probability == pytest.approx(wanted, abs=1e-6)


def test_by_names_the_exact_one_comes_first_and_case_and_spaces_do_not_count() -> None:
    names = ("armchair", "Office  Chair", "CHAIR", "", "stra\u00dfe")
    scene = replace(random_scene(groups=5), group_names=names, semantics=None)
    assert find(scene, " chair ").matches == ((8, 1.0), (2, 1.0), (5, 1.0), (11, 0.0), (14, 0.0))
    assert find(scene, "office chair").matches[0] == (5, 1.0)
    assert find(scene, "STRASSE").matches[0] == (14, 1.0)
    nothing = find(scene, "a place to sit")
    assert nothing.encoder is None and nothing.matches == tuple((group, 0.0) for group in (2, 5, 8, 11, 14))


def test_names_serve_where_there_is_no_encoder() -> None:
    found = find(tg.example_scene(), "box")
    assert found.encoder is None and found.matches[0] == (2, 1.0)


@pytest.mark.parametrize(
    ("named", "meant", "embed", "asked", "message"),
    [
        (True, True, True, True, None),
        (True, False, True, True, None),
        (False, True, True, True, None),
        (False, True, False, False, "no names, and there is no text encoder"),
        (False, False, True, False, "the scene has no semantics: reconstruct it with weights that have them"),
    ],
)
def test_what_can_be_asked_can_be_answered(
    named: bool, meant: bool, embed: bool, asked: bool, message: str | None
) -> None:
    def encoder(scene: TokenScene, _text: str) -> torch.Tensor:
        assert scene.semantics is not None
        return scene.semantics.embeddings[0]

    scene = tg.example_scene()
    scene = replace(scene, group_names=scene.group_names if named else (), semantics=scene.semantics if meant else None)
    given = encoder if embed else None
    assert can_ask(scene, given) == asked
    if message is None:
        assert len(find(scene, "box", given).matches) == 3
    else:
        with pytest.raises(UserError, match=message):
            find(scene, "box", given)
