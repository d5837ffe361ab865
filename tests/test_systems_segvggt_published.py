"""Published SegVGGT checkpoints, at small sizes: strict loading, every source, and what else a file may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import iggt_weights
import pytest
import torch
from segvggt_networks import CONFIG, SIZES, published_state, small
from torch import Tensor

from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.systems.iggt import published as iggt
from tokengroups.systems.published import kind_of_file, kind_on_hub
from tokengroups.systems.segvggt.config import QueryConfig, SegVGGTConfig
from tokengroups.systems.segvggt.published import RELEASE, load_network

V200, V2 = (Path(name).name for name in RELEASE.files)


def load(source: str | Path, config: SegVGGTConfig | None = CONFIG) -> Any:
    return load_network(source, SIZES, config)


def check_loaded(network: Any, state: dict[str, Tensor]) -> None:
    loaded = {**network.encoder.state_dict(), **network.branch.state_dict()}
    assert set(loaded) == set(state) and all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("wrapper", ["", "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_bare_and_wrapped_state_dicts(wrapper: str, prefix: str, zipped: bool, tmp_path: Path) -> None:
    state = published_state()
    content: Any = {prefix + name: tensor for name, tensor in state.items()}
    if wrapper:
        content = {"epoch": 3, wrapper: content, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert kind_of_file(tmp_path / "a.pt") == "SegVGGT"
    check_loaded(load(tmp_path / "a.pt"), state)


@torch.no_grad()
def test_the_loaded_network_computes_the_same(tmp_path: Path) -> None:
    torch.save(published_state(), tmp_path / "a.pt")
    images = torch.rand(1, 2, 3, 28, 42)
    found, expected = load(tmp_path / "a.pt")(images)[1], small()(images)[1]
    assert torch.equal(found.queries, expected.queries) and torch.equal(found.features, expected.features)


@pytest.mark.parametrize("classes", [18, 198])
def test_the_number_of_classes_is_that_of_the_file(classes: int, tmp_path: Path) -> None:
    torch.save(
        published_state(replace(CONFIG, num_classes=classes, queries=QueryConfig(), lora_rank=32)), tmp_path / "a.pt"
    )
    network = load(tmp_path / "a.pt", None)
    assert network.config == replace(SegVGGTConfig(), num_classes=classes)
    assert network.branch.semantic_head.classify(torch.zeros(1, 8)).shape == (1, classes + 1)


@pytest.mark.parametrize("form", ["folder", "subfolder", "hub", "hub_file"])
def test_sources(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub id alone means ScanNet200's; a folder must hold one of the files."""
    state, asked = published_state(), []
    other = {name: tensor + 1 for name, tensor in state.items()}
    (tmp_path / "hub" / "checkpoint").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoint" / V200)
    torch.save(other, tmp_path / "hub" / "checkpoint" / V2)

    def hub(name: str, patterns: list[str]) -> Path:
        asked.append((name, patterns))
        return tmp_path / "hub"

    monkeypatch.setattr("tokengroups.systems.published.hub_folder", hub)
    (tmp_path / "mine").mkdir()
    torch.save(state, tmp_path / "mine" / V200)
    sources = {
        "folder": tmp_path / "mine", "subfolder": tmp_path / "hub", "hub": "JinyuanQu/SegVGGT",
        "hub_file": f"JinyuanQu/SegVGGT/checkpoint/{V2}",
    }  # fmt: skip
    assert kind_on_hub(sources[form]) == ("SegVGGT" if form.startswith("hub") else "")
    if form == "subfolder":
        with pytest.raises(UserError, match=f"holds {V200} and {V2}; give one of the files"):
            load(sources[form])
        return
    check_loaded(load(sources[form]), other if form == "hub_file" else state)
    name = RELEASE.files[form == "hub_file"]
    assert asked == ([("JinyuanQu/SegVGGT", [name])] if form.startswith("hub") else [])


def test_kinds_are_told_by_names(tmp_path: Path) -> None:
    torch.save(iggt_weights.published_state(), tmp_path / "iggt.pth")
    torch.save(VGGT(SIZES).state_dict(), tmp_path / "vggt.pt")
    torch.save({"backbone.weight": torch.ones(2)}, tmp_path / "other.pt")
    assert kind_of_file(tmp_path / "iggt.pth") == "IGGT" and kind_of_file(tmp_path / "vggt.pt") == "VGGT"
    with pytest.raises(UserError, match=r"the checkpoint of another model \(backbone.weight, ...\); this"):
        kind_of_file(tmp_path / "other.pt")
    assert kind_on_hub("lifuguan/IGGT_official") == "IGGT" and kind_on_hub("facebook/VGGT-1B-Commercial") == "VGGT"
    assert kind_on_hub("vggt_tiny") == kind_on_hub("JinyuanQu/other") == kind_on_hub(tmp_path) == ""


class Evil:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def other_queries(file: Path) -> None:
    torch.save(published_state(replace(CONFIG, queries=QueryConfig(number=12))), file)


def other_classes(file: Path) -> None:
    torch.save(published_state(replace(CONFIG, num_classes=20)), file)


def vggt(file: Path) -> None:
    torch.save({"model": VGGT(SIZES).state_dict()}, file)


def iggt_checkpoint(file: Path) -> None:
    torch.save(iggt_weights.published_state(), file)


def merged(file: Path) -> None:
    """LoRA merged: the layout of VGGT."""
    state = {name.replace(".linear.", "."): t for name, t in published_state().items() if "lora_" not in name}
    torch.save(state, file)


def partial(file: Path) -> None:
    torch.save({n: t for n, t in published_state().items() if "cross_blocks.2.norm_kv" not in n}, file)


def code(file: Path) -> None:
    torch.save({"model": published_state(), "args": Evil(file.parent / "ran")}, file)


def no_classes(file: Path) -> None:
    changed(file, lambda weight: weight[:0], "semantic_head.scratch.output_instance.2.weight")


def changed(file: Path, change: Callable[[Tensor], Tensor], name: str = "aggregator.instance_query_token") -> None:
    state = published_state()
    torch.save({**state, name: change(state[name])}, file)


def not_finite(file: Path) -> None:
    state = published_state()
    state["aggregator.instance_query_token"][0, 3, 5] = float("nan")
    torch.save(state, file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_queries, "a checkpoint of 12 queries; this SegVGGT has 9$"),
        (other_classes, "a checkpoint of 20 classes; this SegVGGT has 7$"),
        (
            vggt,
            "VGGT weights without all of SegVGGT's instance branch; SegVGGT's has aggregator.instance_, semantic_head$",
        ),
        (no_classes, "1 of another shape: semantic_head.scratch.output_instance.2.weight"),
        (lambda file: changed(file, torch.Tensor.to_sparse), "no state dict .*dense real tensors"),
        (lambda file: changed(file, lambda token: token.to(torch.complex64)), "no state dict .*dense real tensors"),
        (iggt_checkpoint, "an IGGT checkpoint; SegVGGT's has"),
        (lambda file: torch.save({"backbone.weight": torch.ones(2)}, file), "the checkpoint of another model"),
        (merged, r"do not fit this VGGT: 80 missing: aggregator.frame_blocks.0.attn.qkv.linear.weight"),
        (partial, "do not fit this QueryBranch: 2 missing: aggregator.instance_cross_blocks.2.norm_kv.weight"),
        (code, "may run code"),
        (not_finite, "hold NaN or infinity in aggregator.instance_query_token"),
        (lambda file: torch.save([torch.ones(1)], file), "no state dict"),
        (lambda file: torch.save({"model": {"a": 1}}, file), "no state dict"),
        (lambda file: file.write_bytes(file.read_bytes()[:-2000]), "damaged or truncated"),
        (lambda file: file.unlink(), f"no such file; give {V200} or {V2}, its folder, or the hub id"),
    ],
)
def test_other_files_are_one_line_that_says_what_they_are(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    file = tmp_path / "a.pt"
    torch.save(published_state(), file)
    spoil(file)
    with pytest.raises(UserError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


def test_published_numbers_are_asked_for_by_default(tmp_path: Path) -> None:
    torch.save(published_state(), tmp_path / "a.pt")
    with pytest.raises(UserError, match="a checkpoint of 9 queries; this SegVGGT has 400$"):
        load(tmp_path / "a.pt", None)
    torch.save(published_state(replace(CONFIG, queries=QueryConfig(), num_classes=20)), tmp_path / "a.pt")
    with pytest.raises(UserError, match="a checkpoint of 20 classes; this SegVGGT has 18 or 198$"):
        load(tmp_path / "a.pt", None)


def test_iggt_names_a_segvggt_checkpoint(tmp_path: Path) -> None:
    torch.save({"model": published_state()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="a SegVGGT checkpoint; IGGT's has point_head, part_adaptor, part_head$"):
        iggt.load_published(tmp_path / "a.pt")
