"""How queries share their attention among the frames, against where their instances are seen (FADA, SegVGGT).

L layers, Q queries, V frames, M instances, N matched pairs of them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frame_masses(frame_attention: Float[Tensor, "*q V"]) -> Float[Tensor, "*q V"]:
    """Attention of the queries summed over the tokens of each frame: a distribution over the frames.

    Args:
        frame_attention: Means over the tokens of each frame, or any other multiple of the sums.
    """
    return frame_attention / frame_attention.sum(dim=-1, keepdim=True)


def jensen_shannon(p: Float[Tensor, "*#n V"], q: Float[Tensor, "*#n V"]) -> Float[Tensor, "*n"]:
    """Jensen-Shannon divergence of distributions, by the natural logarithm, with 0 log 0 = 0; at most log 2.

    Its gradient is finite also where a probability is exactly 0.

    Example:
        >>> import torch
        >>> from tokengroups.losses.frame_attention import jensen_shannon
        >>> seen = torch.tensor([0.5, 0.5, 0.0])
        >>> [round(jensen_shannon(seen, q).item(), 4) for q in (seen, torch.tensor([0.0, 0.0, 1.0]))]
        [0.0, 0.6931]
    """
    middle = (p + q) / 2
    return (_negative_entropy(p) + _negative_entropy(q)) / 2 - _negative_entropy(middle)


@torch.no_grad()
def attention_costs(
    frame_attention: Float[Tensor, "L Q V"], frame_shares: Float[Tensor, "M V"]
) -> Float[Tensor, "Q M"]:
    """Sum over the layers of the divergence between each query's attention and each instance's pixels.

    Args:
        frame_attention: As for `frame_masses`.
        frame_shares: Share of each instance's pixels that a frame shows; rows sum to 1.
    """
    costs = frame_attention.new_zeros(frame_attention.shape[1], len(frame_shares))
    for layer in frame_masses(frame_attention):  # one at a time, which bounds the memory
        costs += jensen_shannon(frame_shares, layer[:, None])
    return costs


def attention_loss(frame_attention: Float[Tensor, "L N V"], frame_shares: Float[Tensor, "N V"]) -> Float[Tensor, ""]:
    """Mean over matched pairs of what `attention_costs` sums; zero, attached to the graph, without any."""
    if len(frame_shares) == 0:
        return frame_attention.sum() * 0
    return jensen_shannon(frame_shares, frame_masses(frame_attention)).sum(dim=0).mean()


def _negative_entropy(p: Float[Tensor, "*n V"]) -> Float[Tensor, "*n"]:
    # xlogy would give the same values, but an infinite slope at 0, which a softmax that underflows turns into NaN.
    return (p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum(dim=-1)
