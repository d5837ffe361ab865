"""How long a search takes: over a scene's groups, and over one embedding per Gaussian as others keep it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.retrieval import find_groups, rank, semantics_of
from tokengroups.types import TokenScene

TOP = 5
REPEATS = 9


def group_query_ms(scene: TokenScene, text: Float[Tensor, " D"]) -> float:
    """Median milliseconds of `find_groups`, from an encoded text to the best groups with their boxes."""
    return _median_ms(lambda: find_groups(scene, text, TOP))


def group_search_ms(scene: TokenScene, text: Float[Tensor, " D"]) -> float:
    """Median milliseconds of the search alone, without centres, boxes and probabilities."""
    return _search_ms(semantics_of(scene).embeddings, text)


def gaussian_search_ms(scene: TokenScene, text: Float[Tensor, " D"]) -> float:
    """The same search over one vector per Gaussian."""
    return _search_ms(gaussian_features(scene), text)


def _search_ms(embeddings: Float[Tensor, "M D"], text: Float[Tensor, " D"]) -> float:
    vectors, direction = embeddings.numpy(force=True), text.to(embeddings).numpy(force=True)
    return _median_ms(lambda: rank(vectors, direction, TOP)[0].tolist())


def gaussian_features(scene: TokenScene) -> Float[Tensor, "N D"]:
    """Unit feature of every Gaussian: its group's embedding plus its anchor's residual."""
    semantics = semantics_of(scene)
    own = semantics.embeddings[scene.assignment.argmax(dim=-1)]
    return functional.normalize(own + semantics.residuals @ semantics.projection.T, dim=-1)[scene.anchor_ids]


def _median_ms(search: Callable[[], object]) -> float:
    """After one search that warms up. Both searches end on the host, so a GPU has finished by then."""
    search()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        search()
        times.append(time.perf_counter() - start)
    return 1000 * median(times)
