"""Weight files: round trips, damage, and strictness."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from tokengroups.checkpoint import (
    SHIPPED,
    load_state_strict,
    load_weights,
    read_metadata,
    read_tensors,
    save_weights,
    shipped_weights,
    write_tensors,
)  # fmt: skip
from tokengroups.errors import UserError

TENSORS = {
    "float": torch.randn(3, 4),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "ids": torch.tensor([-1, 2**40]),
    "empty": torch.zeros(0, 5),
    "scalar": torch.tensor(1.5, dtype=torch.float64),
    "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
}


def test_equal_content_gives_equal_files(tmp_path: Path) -> None:
    texts = {f"key {number}": f'é\x00\x1f\x7f\n\\"\u2028 {number}' for number in range(9)}
    files = set()
    for turn in range(5):
        write_tensors(tmp_path / f"{turn}.safetensors", TENSORS, texts)
        files.add((tmp_path / f"{turn}.safetensors").read_bytes())
    assert len(files) == 1
    assert read_metadata(tmp_path / "0.safetensors") == texts
    assert torch.equal(read_tensors(tmp_path / "0.safetensors")["ids"], TENSORS["ids"])


def test_tensors_and_metadata_come_back_bit_equal(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS, {"note": "größe"})
    read = read_tensors(path)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[n], t) and read[n].dtype == t.dtype for n, t in TENSORS.items())
    assert read_metadata(path) == {"note": "größe"}
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    whole = torch.randn(4, 3)
    write_tensors(tmp_path / "a.safetensors", {"whole": whole, "same": whole, "rows": whole[1:3]})
    read = read_tensors(tmp_path / "a.safetensors")
    assert torch.equal(read["whole"], whole)
    assert torch.equal(read["same"], whole) and torch.equal(read["rows"], whole[1:3])


def test_every_truncation_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    path, broken = tmp_path / "a.safetensors", tmp_path / "broken.safetensors"
    write_tensors(path, TENSORS)
    whole = path.read_bytes()
    foreign = [b"", b"hello", b"\x89PNG\r\n" + bytes(200), b"\xff" * 64, whole[8:], json.dumps({"a": 1}).encode() * 9]
    for content in [*(whole[:n] for n in range(0, len(whole), 29)), *foreign]:
        broken.write_bytes(content)
        for read in (read_tensors, read_metadata):
            with pytest.raises(
                UserError, match=r"broken\.safetensors: not a safetensors file, or a truncated"
            ) as caught:
                read(broken)
            assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_tensors(tmp_path / "missing.safetensors")
    with pytest.raises(UserError, match="it is a folder"):
        read_tensors(tmp_path)
    with pytest.raises(UserError, match="no weights at"):
        load_weights(tmp_path / "missing")
    with pytest.raises(UserError, match=r"config\.json.*a weight folder needs it"):
        load_weights(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load_weights(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        write_tensors(tmp_path / "none" / "a.safetensors", TENSORS)


def test_a_write_that_runs_out_of_space_leaves_the_old_file_intact(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the system refuses larger files
    try:
        with pytest.raises(UserError, match="free some space, nothing was changed"):
            write_tensors(path, {"a": torch.zeros(1 << 16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("half", [False, True])
def test_weights_come_back_as_float32(tmp_path: Path, half: bool) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    save_weights(tmp_path / "w", module.state_dict(), {"width": 4, "rates": [1, 2]}, half=half)
    tensors, config = load_weights(tmp_path / "w")
    assert config == {"width": 4, "rates": [1, 2]}
    for name, tensor in module.state_dict().items():
        assert tensors[name].dtype == tensor.dtype
        expected = tensor.half().float() if half and tensor.dtype == torch.float32 else tensor
        assert torch.equal(tensors[name], expected)
    load_state_strict(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), tensors, "w")


def test_float16_tensors_stay_float16_where_they_were(tmp_path: Path) -> None:
    save_weights(tmp_path, {"a": torch.ones(2, dtype=torch.float16)}, {})
    assert load_weights(tmp_path)[0]["a"].dtype == torch.float16


def test_half_storage_refuses_values_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a' holds values beyond float16"):
        save_weights(tmp_path, {"a": torch.tensor([1e6])}, {}, half=True)


def test_misfits_name_the_keys_and_change_nothing() -> None:
    module = nn.Linear(3, 4)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors = {"weight": torch.zeros(4, 5), "extra.a": torch.zeros(1), "extra.b": torch.zeros(1)}
    with pytest.raises(UserError) as caught:
        load_state_strict(module, tensors, "some/folder")
    message = str(caught.value)
    assert "some/folder do not fit this Linear" in message and "use the config" in message
    assert "1 missing: bias" in message and "2 unexpected: extra.a, extra.b" in message
    assert "1 of another shape: weight [4, 5] for [4, 3]" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_only_the_first_few_keys_are_listed() -> None:
    with pytest.raises(UserError, match=r"30 unexpected: k0, k1, k2 and 27 more"):
        load_state_strict(nn.Identity(), {f"k{n}": torch.zeros(1) for n in range(30)}, "x")


# --- digests --------------------------------------------------------------------------------------------------------


def flipped(path: Path, positions: Iterable[int]) -> Iterator[int]:
    """Write the file again and again, each time with one bit of one byte flipped; the whole file comes back."""
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        yield position
    path.write_bytes(whole)


def test_no_flipped_bit_of_a_tensor_file_gets_through(tmp_path: Path) -> None:
    """Every byte, those of the digest and of its key included: refused, or all that is read is equal."""
    path, texts = tmp_path / "a.safetensors", {"format": "x", "note": "größe", "scene": json.dumps({"a": [1, 2]})}
    write_tensors(path, TENSORS, texts)
    before, refused = read_tensors(path), 0
    for position in flipped(path, range(path.stat().st_size)):
        try:
            found = read_tensors(path)
        except UserError as error:
            refused += 1
            assert str(error).isprintable()
            continue
        assert found.keys() == before.keys() and read_metadata(path) == texts, position
        assert all(torch.equal(found[name], before[name]) for name in before), position
    assert refused > 0.95 * path.stat().st_size  # white space may be replaced by other white space


def test_files_of_other_programs_have_no_digest_and_are_read(tmp_path: Path) -> None:
    save_file(
        TENSORS | {"transposed": TENSORS["transposed"].contiguous()}, tmp_path / "a.safetensors", {"format": "pt"}
    )
    read = read_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


def test_the_check_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.tensor([1.0, 2.0])})
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    damaged = torch.frombuffer(whole[-8:], dtype=torch.float32)
    with pytest.raises(UserError, match="a.safetensors: damaged, it differs from its own digest; get a fresh copy"):
        read_tensors(path)
    assert torch.equal(read_tensors(path, check=False)["a"], damaged)
    monkeypatch.setenv("TOKENGROUPS_UNCHECKED", "1")
    assert torch.equal(read_tensors(path)["a"], damaged)
    with pytest.raises(UserError, match="damaged"):
        read_tensors(path, check=True)


def test_a_file_written_again_gets_a_digest_of_its_own(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(2)}, {"note": "x"})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        texts = file.metadata()
    write_tensors(tmp_path / "b.safetensors", {"a": torch.zeros(2)}, texts | {"note": "y"})
    assert torch.equal(read_tensors(tmp_path / "b.safetensors")["a"], torch.zeros(2))
    assert read_metadata(tmp_path / "b.safetensors") == {"note": "y"}


def test_no_flipped_bit_of_shipped_or_saved_weights_gets_through(tmp_path: Path) -> None:
    save_weights(tmp_path, {"a": torch.randn(5, 7), "b": torch.arange(9)}, {"dim": 3}, half=True)
    before, _ = load_weights(tmp_path)
    for position in flipped(tmp_path / "model.safetensors", range(0, (tmp_path / "model.safetensors").stat().st_size)):
        try:
            found, _ = load_weights(tmp_path)
        except UserError:
            continue
        assert all(torch.equal(found[name], before[name]) for name in before), position
    for name in shipped_weights():
        with safe_open(SHIPPED / name / "model.safetensors", "pt") as file:
            assert file.metadata()["digest"].startswith("crc32:")


def test_what_cannot_be_made_again_is_on_the_disk_before_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_tensors(tmp_path / "a.safetensors", TENSORS, durable=False)
    assert synced == []
    write_tensors(tmp_path / "a.safetensors", TENSORS)
    assert len(synced) == 2  # the content, and the folder with the new name
    save_weights(tmp_path / "w", {"a": torch.ones(1)}, {})
    assert len(synced) == 6


def test_parameters_that_are_not_finite_are_refused() -> None:
    module = nn.Linear(2, 2)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state["bias"][1] = float("inf")
    with pytest.raises(UserError, match="the weights of here hold NaN or infinity in bias; use other weights"):
        load_state_strict(module, state, "here")
    assert module.bias.isfinite().all()


def test_a_configuration_of_weights_is_no_large_file(tmp_path: Path) -> None:
    save_weights(tmp_path, {"a": torch.ones(1)}, {})
    (tmp_path / "config.json").write_text("[" + "[]," * 2**20 + "1]")
    with pytest.raises(UserError, match=r"config\.json: larger than 1 MiB"):
        load_weights(tmp_path)
