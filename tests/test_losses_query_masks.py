"""The objective of queries against float64 loops over queries, instances and cells, and scipy's assignment."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from tests.largest_tensor import LargestTensor
from tokengroups.losses import query_masks
from tokengroups.losses.instance_field import prototype_loss
from tokengroups.losses.query_masks import QueryLossConfig, QueryLosses, QueryPredictions, query_costs, query_losses
from tokengroups.losses.query_targets import InstanceTargets

FRAMES, SIZE, CHANNELS, CLASSES, LAYERS = 3, (4, 5), 6, 4, 3
CONFIG = QueryLossConfig(classes=0.7, bce=1.3, dice=0.9, attention=1.1, no_object=0.2)


def some_predictions(queries: int = 6, scenes: int = 2, dtype: torch.dtype = torch.float64) -> QueryPredictions:
    rng = torch.Generator().manual_seed(queries)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    attention = noise(LAYERS, scenes, queries, FRAMES).softmax(dim=-1) / 7
    return QueryPredictions(
        noise(scenes, queries, CHANNELS),
        noise(scenes, FRAMES, *SIZE, CHANNELS),
        noise(scenes, queries, CLASSES + 1),
        attention,
        noise(LAYERS, scenes, queries, CHANNELS),
        noise(LAYERS, scenes, queries, CLASSES + 1),
    ).map(lambda tensor: tensor.to(dtype))


def some_targets(instances: int, seed: int = 0) -> InstanceTargets:
    rng = torch.Generator().manual_seed(seed)
    masks = (torch.rand(instances, FRAMES, *SIZE, generator=rng) < 0.4).double()
    masks[: instances // 2, 1] = 0  # not seen in the second frame
    counts = masks.sum(dim=(2, 3))
    classes = torch.randint(0, CLASSES, (instances,), generator=rng)
    return InstanceTargets(torch.arange(instances), classes, masks, counts / counts.sum(dim=1, keepdim=True))


def pair_by_loop(queries: Tensor, features: Tensor, mask: Tensor, query: int) -> tuple[float, float]:
    """BCE and Dice of one query and one mask, cell after cell."""
    bce = overlap = size = true = 0.0
    for view in range(FRAMES):
        for row in range(SIZE[0]):
            for column in range(SIZE[1]):
                channels = zip(queries[query].tolist(), features[view, row, column].tolist(), strict=True)
                product = sum(a * b for a, b in channels)
                p, y = 1 / (1 + math.exp(-product)), mask[view, row, column].item()
                bce -= y * math.log(p) + (1 - y) * math.log(1 - p)
                overlap, size, true = overlap + p * y, size + p, true + y
    cells = FRAMES * SIZE[0] * SIZE[1]
    return bce / cells, 1 - (2 * overlap + 1) / (size + true + 1)


def attention_by_loop(attention: Tensor, shares: Tensor, query: int) -> float:
    layers = [attention[layer, query].numpy() for layer in range(LAYERS)]  # scipy divides by the sums
    return sum(jensenshannon(shares.numpy(), layer) ** 2 for layer in layers) / (LAYERS * FRAMES)


def class_by_loop(logits: Tensor, wanted: dict[int, int], no_object: float) -> float:
    errors = weights = 0.0
    for query, row in enumerate(logits.tolist()):
        target = wanted.get(query, CLASSES)
        weight = no_object if target == CLASSES else 1.0
        errors += weight * (math.log(sum(map(math.exp, row))) - row[target])
        weights += weight
    return errors / weights


def costs_by_loop(predicted: QueryPredictions, targets: InstanceTargets, scene: int) -> dict[str, np.ndarray]:
    assert predicted.frame_attention is not None
    queries, features, logits = predicted.queries[scene], predicted.features[scene], predicted.class_logits[scene]
    costs = {name: np.zeros((len(queries), len(targets.ids))) for name in ("classes", "bce", "dice", "attention")}
    for query in range(len(queries)):
        for column in range(len(targets.ids)):
            chances = [math.exp(value) for value in logits[query].tolist()]
            costs["classes"][query, column] = -chances[int(targets.classes[column])] / sum(chances)
            both = pair_by_loop(queries, features, targets.masks[column], query)
            costs["bce"][query, column], costs["dice"][query, column] = both
            attention = predicted.frame_attention[:, scene]
            costs["attention"][query, column] = attention_by_loop(attention, targets.frame_shares[column], query)
    return costs


def losses_by_loop(predicted: QueryPredictions, targets: list[InstanceTargets]) -> tuple[dict[str, float], list]:
    """Terms, and the pairs, by the weights of CONFIG."""
    terms, pairs = {name: 0.0 for name in ("class", "bce", "dice", "attention")}, []
    for scene, target in enumerate(targets):
        costs = costs_by_loop(predicted, target, scene)
        total = 0.7 * costs["classes"] + 1.3 * costs["bce"] + 0.9 * costs["dice"] + 1.1 * costs["attention"]
        rows, columns = linear_sum_assignment(total)
        pairs.append((rows.tolist(), columns.tolist()))
        wanted = {int(q): int(target.classes[i]) for q, i in zip(rows, columns, strict=True)}
        terms["class"] += class_by_loop(predicted.class_logits[scene], wanted, 0.2) / len(targets)
        for name in ("bce", "dice", "attention"):
            terms[name] += costs[name][rows, columns].mean() / len(targets)
    return terms, pairs


def values(found: QueryLosses) -> dict[str, float]:
    return {name: value.item() for name, value in found.losses.terms.items()}


def test_costs_equal_a_loop_over_pairs(monkeypatch) -> None:
    monkeypatch.setattr(query_masks, "_LOGITS_AT_ONCE", 6 * 7)  # 7 of 60 cells at a time
    predicted, targets = some_predictions(), some_targets(4)
    expected = costs_by_loop(predicted, targets, 1)
    costs = query_costs(predicted.scene(1), targets, CONFIG)
    for name, values_of in expected.items():
        np.testing.assert_allclose(getattr(costs, name).numpy(), values_of, rtol=1e-10, atol=1e-14)
    total = 0.7 * expected["classes"] + 1.3 * expected["bce"] + 0.9 * expected["dice"] + 1.1 * expected["attention"]
    np.testing.assert_allclose(costs.total(CONFIG).numpy(), total, rtol=1e-10)
    without = costs.total(replace(CONFIG, attention_in_matching=False)).numpy()
    np.testing.assert_allclose(without, total - 1.1 * expected["attention"], rtol=1e-10)


def test_losses_equal_a_loop_over_scenes_and_scipy_s_pairs() -> None:
    predicted, targets = some_predictions(), [some_targets(4), some_targets(2, seed=1)]
    expected, pairs = losses_by_loop(predicted, targets)
    found = query_losses(predicted, targets, CONFIG)
    assert [(match.query.tolist(), match.instance.tolist()) for match in found.matches] == pairs
    assert found.unmatched == 0 and values(found) == pytest.approx(expected, rel=1e-10)
    total = 0.7 * expected["class"] + 1.3 * expected["bce"] + 0.9 * expected["dice"] + 1.1 * expected["attention"]
    assert found.losses.total.item() == pytest.approx(total, rel=1e-10)


def test_attention_in_the_matching_can_decide_it() -> None:
    """Two queries with equal masks and classes: the one that looks at the frames of the instance gets it."""
    predicted = some_predictions(queries=2, scenes=1)
    alike = replace(
        predicted,
        queries=predicted.queries[:, :1].expand(-1, 2, -1),
        class_logits=predicted.class_logits[:, :1].expand(-1, 2, -1),
        frame_attention=torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]]).double().expand(LAYERS, 1, 2, 3),
    )
    targets = some_targets(1)
    for frame, query in ((0, 0), (1, 1)):
        seen = replace(targets, frame_shares=torch.eye(3).double()[frame, None])
        assert query_losses(alike, [seen], CONFIG).matches[0].query.tolist() == [query]
    blind = replace(CONFIG, attention_in_matching=False)
    seen = replace(targets, frame_shares=torch.eye(3).double()[1, None])
    assert query_losses(alike, [seen], blind).matches[0].query.tolist() == [0]


def test_one_matching_spans_all_frames() -> None:
    """A query that swaps two instances between frames loses although it is perfect in each of them."""
    ids = torch.zeros(2, 4, 4, dtype=torch.int64)
    ids[:, :, 2:] = 1
    masks = torch.stack([ids == 0, ids == 1]).double()
    targets = InstanceTargets(torch.arange(2), torch.zeros(2).long(), masks, torch.full((2, 2), 0.5).double())
    for features, perfect in ((ids, True), (torch.stack([ids[0], 1 - ids[1]]), False)):
        maps = 40.0 * torch.nn.functional.one_hot(features, 2).double() - 20
        predicted = QueryPredictions(torch.eye(2).double()[None], maps[None], torch.zeros(1, 2, 2).double())
        terms = values(query_losses(predicted, [targets], replace(CONFIG, attention=0)))
        assert (terms["bce"] < 1e-6 and terms["dice"] < 1e-6) == perfect


def test_normalisations_and_smoothing() -> None:
    predicted, targets = some_predictions(), [some_targets(4), some_targets(3, seed=2)]
    own = values(query_losses(predicted, targets, CONFIG))
    by_layers = query_losses(predicted, targets, replace(CONFIG, attention_normalisation="layers", attention=1.1 / 3))
    assert values(by_layers)["attention"] == pytest.approx(FRAMES * own["attention"], rel=1e-10)
    assert by_layers.losses.total.item() == pytest.approx(query_losses(predicted, targets, CONFIG).losses.total.item())
    costs = query_costs(predicted.scene(0), targets[0], replace(CONFIG, dice_smoothing=3.0))
    logits = torch.einsum("qe,vhwe->qvhw", predicted.queries[0], predicted.features[0]).sigmoid()
    for query in range(6):
        for column, mask in enumerate(targets[0].masks):
            expected = 1 - (2 * (logits[query] * mask).sum() + 3) / (logits[query].sum() + mask.sum() + 3)
            assert costs.dice[query, column].item() == pytest.approx(expected.item(), rel=1e-10)


def test_pairs_weigh_the_same_or_scenes_do() -> None:
    predicted, targets = some_predictions(), [some_targets(4), some_targets(1, seed=1)]
    single = []
    for scene, target in enumerate(targets):
        part = predicted.scene(scene)
        layered = {n: getattr(part, n)[:, None] for n in ("frame_attention", "layer_queries", "layer_logits")}
        one = QueryPredictions(part.queries[None], part.features[None], part.class_logits[None], **layered)
        single.append(values(query_losses(one, [target], CONFIG)))
    scenes = values(query_losses(predicted, targets, CONFIG))
    pairs = values(query_losses(predicted, targets, replace(CONFIG, scene_weights="pairs")))
    for name in ("bce", "dice", "attention"):
        assert scenes[name] == pytest.approx((single[0][name] + single[1][name]) / 2, rel=1e-10)
        assert pairs[name] == pytest.approx((4 * single[0][name] + single[1][name]) / 5, rel=1e-10)
    assert pairs["class"] == scenes["class"] == pytest.approx((single[0]["class"] + single[1]["class"]) / 2, rel=1e-10)


def test_more_instances_than_queries_leave_some_unmatched_and_counted() -> None:
    predicted, targets = some_predictions(queries=3), [some_targets(5), some_targets(2, seed=1)]
    expected, pairs = losses_by_loop(predicted, targets)
    found = query_losses(predicted, targets, CONFIG)
    assert found.unmatched == 2 and [len(match.query) for match in found.matches] == [3, 2]
    assert [(match.query.tolist(), match.instance.tolist()) for match in found.matches] == pairs
    assert values(found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("scene_weights", ["equal", "pairs"])
def test_no_instance_at_all_leaves_the_class_loss_and_zeros_in_the_graph(scene_weights) -> None:
    predicted = some_predictions(scenes=1).map(lambda tensor: tensor.requires_grad_())
    found = query_losses(predicted, [some_targets(0)], replace(CONFIG, scene_weights=scene_weights))
    terms = values(found)
    assert [terms[name] for name in ("bce", "dice", "attention")] == [0, 0, 0] and found.unmatched == 0
    assert terms["class"] == pytest.approx(class_by_loop(predicted.class_logits[0].detach(), {}, 0.2), rel=1e-10)
    found.losses.total.backward()
    for name in ("queries", "features", "frame_attention"):
        gradient = getattr(predicted, name).grad
        assert gradient is not None and bool((gradient == 0).all())
    assert predicted.class_logits.grad is not None and bool((predicted.class_logits.grad != 0).any())


def test_gradients_are_those_of_finite_differences() -> None:
    whole, target = some_predictions(queries=3, scenes=1), some_targets(2)
    assert whole.frame_attention is not None and whole.layer_queries is not None and whole.layer_logits is not None
    small = [whole.queries[..., :3], whole.features[:, :, :2, :2, :3], whole.class_logits, whole.frame_attention[:2]]
    small += [whole.layer_queries[:2, ..., :3], whole.layer_logits[:2]]
    inputs = [tensor.clone().requires_grad_() for tensor in small]
    targets, config = [replace(target, masks=target.masks[:, :, :2, :2])], replace(CONFIG, deep_supervision=0.5)

    def total(*tensors: Tensor) -> Tensor:
        return query_losses(QueryPredictions(*tensors), targets, config).losses.total

    assert torch.autograd.gradcheck(total, inputs)


def test_attention_learns_to_look_where_the_instance_is() -> None:
    logits = torch.zeros(LAYERS, 1, 6, FRAMES, dtype=torch.float64, requires_grad=True)
    predicted = replace(some_predictions(scenes=1), frame_attention=logits.softmax(dim=-1))
    targets = replace(some_targets(2), frame_shares=torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5]]).double())
    found = query_losses(predicted, [targets], CONFIG)
    (gradient,) = torch.autograd.grad(found.losses.total, logits)
    query, instance = found.matches[0].query, found.matches[0].instance
    for one, other in zip(query.tolist(), instance.tolist(), strict=True):
        assert bool(((gradient[:, 0, one] < 0) == (targets.frame_shares[other] > 0)).all())
    rest = [index for index in range(6) if index not in query.tolist()]
    assert bool((gradient[:, 0, rest] == 0).all())


def test_deep_supervision_repeats_the_last_layer_s_matching() -> None:
    predicted, targets = some_predictions(scenes=1), some_targets(3)
    plain = query_losses(predicted, [targets], CONFIG)
    deep = query_losses(predicted, [targets], replace(CONFIG, deep_supervision=0.4))
    assert predicted.layer_queries is not None and predicted.layer_logits is not None
    query, instance, expected = plain.matches[0].query, plain.matches[0].instance, 0.0
    wanted = {int(q): int(targets.classes[i]) for q, i in zip(query, instance, strict=True)}
    for layer in range(2):  # the third is the last
        pairs = [
            pair_by_loop(predicted.layer_queries[layer, 0], predicted.features[0], targets.masks[i], int(q))
            for q, i in zip(query, instance, strict=True)
        ]
        bce, dice = (sum(each) / 3 for each in zip(*pairs, strict=True))
        logits = predicted.layer_logits[layer, 0]
        expected += (0.7 * class_by_loop(logits, wanted, 0.2) + 1.3 * bce + 0.9 * dice) / 2
    assert values(deep)["deep"] == pytest.approx(expected, rel=1e-10)
    total = plain.losses.total.item() + 0.4 * expected
    assert deep.losses.total.item() == pytest.approx(total, rel=1e-10) and "deep" not in plain.losses.terms


def test_half_precision_is_computed_in_float32_also_under_autocast() -> None:
    half = some_predictions(dtype=torch.bfloat16)
    targets = [
        replace(target, masks=target.masks.float(), frame_shares=target.frame_shares.float())
        for target in (some_targets(4), some_targets(2, seed=1))
    ]
    expected = values(query_losses(half.to(torch.float32), targets, CONFIG))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = query_losses(half, targets, CONFIG)
    assert found.losses.total.dtype == torch.float32 and values(found) == expected


def test_what_the_configuration_asks_for_must_be_given() -> None:
    predicted, targets = some_predictions(scenes=1), [some_targets(2)]
    with pytest.raises(ValueError, match="frame attention is not given"):
        query_losses(replace(predicted, frame_attention=None), targets, CONFIG)
    with pytest.raises(ValueError, match="queries and logits of the layers are not given"):
        query_losses(replace(predicted, layer_logits=None), targets, replace(CONFIG, deep_supervision=1.0))
    silent = query_losses(replace(predicted, frame_attention=None), targets, replace(CONFIG, attention=0))
    assert "attention" not in silent.losses.terms
    with pytest.raises(ValueError, match="finite"):
        query_losses(replace(predicted, queries=predicted.queries * math.nan), targets, CONFIG)


def test_weights_of_the_paper() -> None:
    own = QueryLossConfig()
    assert (own.classes, own.bce, own.dice, own.attention, own.no_object) == (0.5, 1, 1, 0.5, 0.1)
    with pytest.raises(ValueError, match="no_object must be"):
        QueryLossConfig(no_object=0)


def test_no_tensor_holds_all_masks_of_all_queries_or_pairs(monkeypatch) -> None:
    monkeypatch.setattr(query_masks, "_LOGITS_AT_ONCE", 12 * 7)
    predicted, targets = some_predictions(queries=12), some_targets(5)
    scene, masks = predicted.scene(0), targets.masks.numel()
    with LargestTensor() as largest:
        query_costs(scene, targets, CONFIG)
    cells = FRAMES * SIZE[0] * SIZE[1]
    assert 12 * 7 < largest.numel <= max(masks, scene.features.numel()) < 12 * cells
    with LargestTensor() as largest:
        query_losses(predicted, [targets, targets], CONFIG)
    assert largest.numel <= predicted.features.numel() < 5 * 12 * cells


def test_contrast_is_the_prototype_loss_of_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of which no instance fills over half take no part."""
    monkeypatch.setattr(query_masks, "CONTRAST_CELLS", 2)
    predicted, targets = some_predictions(), [some_targets(3), some_targets(2, seed=1)]
    plain, config = query_losses(predicted, targets, CONFIG), replace(CONFIG, contrast=0.3, contrast_temperature=0.2)
    found = query_losses(predicted, targets, config)
    ids = torch.full((2, FRAMES, *SIZE), -1)
    for scene, target in enumerate(targets):
        for instance in reversed(range(len(target.ids))):
            ids[scene][target.masks[instance] > 0.5] = instance
    expected = prototype_loss(predicted.features.movedim(-1, 2), ids, 0.2, 2)
    assert expected > 0
    torch.testing.assert_close(found.losses.terms["contrast"], expected)
    torch.testing.assert_close(found.losses.total, plain.losses.total + 0.3 * expected)


def test_instances_without_a_class_train_masks_alone() -> None:
    """Their class costs nothing, and their query is asked for no class, not even "no object"."""
    predicted, targets = some_predictions(scenes=1), some_targets(3)
    with_class, nameless = targets.classes.clone(), targets.classes.clone()
    nameless[1] = -1
    expected = costs_by_loop(predicted, replace(targets, classes=with_class), 0)
    expected["classes"][:, 1] = 0
    costs = query_costs(predicted.scene(0), replace(targets, classes=nameless), CONFIG)
    np.testing.assert_allclose(costs.classes.numpy(), expected["classes"], rtol=1e-10)
    total = 0.7 * expected["classes"] + 1.3 * expected["bce"] + 0.9 * expected["dice"] + 1.1 * expected["attention"]
    rows, columns = linear_sum_assignment(total)
    found = query_losses(predicted, [replace(targets, classes=nameless)], CONFIG)
    assert found.matches[0].query.tolist() == rows.tolist() and found.matches[0].instance.tolist() == columns.tolist()
    wanted = {int(q): int(nameless[i]) for q, i in zip(rows, columns, strict=True)}
    kept = [query for query in range(6) if wanted.get(query) != -1]
    renumbered = {kept.index(query): row for query, row in wanted.items() if row != -1}
    terms = values(found)
    assert terms["class"] == pytest.approx(class_by_loop(predicted.class_logits[0, kept], renumbered, 0.2), rel=1e-10)
    assert terms["dice"] == pytest.approx(expected["dice"][rows, columns].mean(), rel=1e-10)
    nothing = replace(targets, classes=torch.full_like(nameless, -1))
    few = query_losses(some_predictions(queries=3, scenes=1), [nothing], CONFIG)
    assert values(few)["class"] == 0 and few.losses.total.isfinite()
