"""Damaged and hostile configurations, weight folders, checkpoints and curves: one line, or values within bounds."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_systems import ENCODER, GROUPS

from tests.training_toy import ToyTask, run_toy, toy_config
from tokengroups.bounds import faults
from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.config import apply_overrides, build_config, read_yaml
from tokengroups.encoders import save_encoder
from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.plain_yaml import check_plain
from tokengroups.systems import load_model, save_system
from tokengroups.systems.token_groups import TokenGroups
from tokengroups.training.experiments import Experiment, read_experiment
from tokengroups.training.log import MetricsLog, read_metrics
from tokengroups.training.optim import AveragedWeights, build_optimizer
from tokengroups.training.state import Checkpoints, RunState

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
fuzzed = settings(
    max_examples=examples(100), deadline=None, database=None, derandomize=os.environ.get("FUZZ_FACTOR", "1") == "1",
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

# Values that no setting, or hardly one, can have, and pieces of hostile YAML.
NUMBERS = [0, -1, 1, 2, 7, 0.5, -0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf, 2**31, 2**63, 10**30, 10**400]
WORDS = ["", "\0", "\x1b[2J", "../..", "a/b", "\ud800", "x" * 5000]
SCALARS = st.sampled_from([*NUMBERS, *WORDS, True, None]) | st.text(max_size=9)
KEYS = st.text(max_size=4)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=5)
SNIPPETS = st.sampled_from([
    "&a ", "*a", "<<: ", "!!binary ", "!!python/name:os.system ", "? ", "- ", "{[1]: 2}", "[" * 300, "{a: " * 70,
    ".inf", ".nan", "9" * 5000, "2024-13-45", "\ufeff", "\0", "\x85", "\t", "---\n", "%YAML 9.9\n", "include: a.yaml\n",
    "'", '"\\ud800"', "\n", "  ",
])  # fmt: skip


def one_line(call: Callable[[], Any]) -> Any:
    """What the call returns; None if it refuses, which it may in one printable line alone."""
    try:
        return call()
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 3000, str(error)
        return None


def within_bounds(config: Any) -> bool:
    """Whether all numbers of a finished configuration are inside their bounds."""
    values = {each.name: getattr(config, each.name) for each in fields(config) if each.init}
    return not list(faults(type(config), values)) and all(map(within_bounds, filter(is_dataclass, values.values())))


def places(values: Any, place: tuple = ()) -> list[tuple]:
    """Where a nested value has values."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [place, *(inner for key, item in items for inner in places(item, (*place, key)))]


def replaced(values: Any, place: tuple, new: Any) -> Any:
    """A copy with another value in one place."""
    if not place:
        return new
    copy = values.copy()
    copy[place[0]] = replaced(values[place[0]], place[1:], new)
    return copy


@st.composite
def changed(draw: st.DrawFn, values: Any) -> Any:
    """The values with some of them replaced, and some with keys that are not known."""
    for _ in range(draw(st.integers(1, 3))):
        values = replaced(values, draw(st.sampled_from(places(values)[1:] or [()])), draw(VALUES))
    return values


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A text with pieces cut out, repeated, or put in."""
    for _ in range(draw(st.integers(1, 4))):
        first, last = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
        put = draw(SNIPPETS | st.text(max_size=5) | st.just(text[first : first + 50]))
        text = text[:first] + put + text[draw(st.sampled_from([first, min(last, first + 40)])) :]
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that a test writes again and again."""
    return tmp_path_factory.mktemp("fuzz")


def plain(path: Path) -> dict[str, Any]:
    """All values of a shipped configuration."""
    return read_experiment(path).description()


PLAIN = {path.name: plain(path) for path in CONFIGS}


def check_experiment(experiment: Experiment | None) -> None:
    """A configuration that was taken is within bounds, and comes back from its description."""
    if experiment is not None:
        assert within_bounds(experiment.config)
        description = experiment.description()
        description.pop("task")
        assert build_config(type(experiment.config), description, "again") == experiment.config


@fuzzed
@given(data=st.data())
def test_changed_values_of_a_configuration(data: st.DataObject, folder: Path) -> None:
    values = data.draw(changed(PLAIN[data.draw(st.sampled_from(sorted(PLAIN)))]))
    (folder / "a.yaml").write_text(json.dumps(values))
    check_experiment(one_line(lambda: read_experiment(folder / "a.yaml")))


@fuzzed
@given(data=st.data())
def test_mutated_text_of_a_configuration(data: st.DataObject, folder: Path) -> None:
    text = data.draw(mutated(data.draw(st.sampled_from(CONFIGS)).read_text()))
    path = folder / "a.yaml"
    path.write_text(text.replace("include: parts/", f"include: {CONFIGS[0].parent}/parts/"), errors="surrogatepass")
    values = one_line(lambda: read_yaml(path))
    if values is not None:
        check_plain(values, "a")
        check_experiment(one_line(lambda: read_experiment(path)))


@fuzzed
@given(text=st.text("ab.=[]{}&*:- \n'\"1e", max_size=30), data=st.data())
def test_overrides(text: str, data: st.DataObject) -> None:
    """Any text; and any value, and snippets of YAML, for any setting."""
    values, path = PLAIN["vggt_tiny.yaml"], CONFIGS[0].with_name("vggt_tiny.yaml")
    name = ".".join(str(key) for key in data.draw(st.sampled_from(places(values)[1:])))
    for override in (text, f"{name}={data.draw(SNIPPETS)}", f"{name}={json.dumps(data.draw(VALUES))}"):
        taken = one_line(partial(apply_overrides, values, [override]))
        if taken is not None:
            check_plain(taken, "a")
            check_experiment(one_line(partial(read_experiment, path, [override])))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight folder of small token groups, its encoder beside it."""
    torch.manual_seed(0)
    parent = tmp_path_factory.mktemp("weights")
    model = TokenGroups(VGGT(ENCODER), GROUPS)
    save_encoder(parent / "encoder", model.encoder.state_dict(), ENCODER)
    save_system(parent / "own", model.network.state_dict(), model, GROUPS, str(parent / "encoder"))
    return parent


@fuzzed
@given(data=st.data())
def test_changed_values_of_a_weight_folder(data: st.DataObject, weights: Path) -> None:
    """In the system's config.json or the encoder's."""
    path = weights / data.draw(st.sampled_from(["own", "encoder"])) / "config.json"
    before = path.read_text()
    text = data.draw(mutated(before) | changed(json.loads(before)).map(json.dumps))
    try:
        path.write_text(text, errors="surrogatepass")
        model = one_line(lambda: load_model(weights / "own"))
    finally:
        path.write_text(before)
    if model is not None:
        assert within_bounds(model.network.config) and within_bounds(model.encoder.config)
        assert all(map(within_bounds, model.steps))


@fuzzed
@given(data=st.data())
def test_mutated_bytes_of_weights(data: st.DataObject, weights: Path, folder: Path) -> None:
    """Bytes put in, or in the place of others: refused, or the same."""
    whole = (weights / "own" / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    first = data.draw(st.integers(0, header) | st.integers(0, len(whole)))
    put = data.draw(st.binary(max_size=9) | st.just(whole[:50]))
    rest = whole[first + data.draw(st.sampled_from([0, len(put)])) :]
    (folder / "a.safetensors").write_bytes(whole[:first] + put + rest)
    tensors = one_line(lambda: read_tensors(folder / "a.safetensors"))
    if tensors is not None:
        expected = read_tensors(weights / "own" / "model.safetensors")
        assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training."""
    output = tmp_path_factory.mktemp("run")
    run_toy(output)
    return output


@fuzzed
@given(data=st.data())
def test_changed_states_of_a_checkpoint(
    data: st.DataObject, run: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a right digest: what is restored are counters within bounds, of this or the checkpoint before."""
    caplog.clear()
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(run / "checkpoints", output / "checkpoints")
    newest = max((output / "checkpoints").iterdir())
    metadata = read_metadata(newest)
    key = data.draw(st.sampled_from(sorted(metadata)))
    text = data.draw(mutated(metadata[key]) | changed(json.loads(metadata["state"])).map(json.dumps))
    write_tensors(newest, read_tensors(newest), metadata | {key: text.encode("utf-8", "replace").decode()})
    task = ToyTask()
    optimizer = build_optimizer(task.parameter_groups(), task.model, toy_config("x"))
    checkpoints = Checkpoints(output, task.model, optimizer, AveragedWeights(task.model))
    state = one_line(lambda: checkpoints.restore({"training": {}}))
    assert isinstance(state, RunState) and state.step in (8, 12)
    assert within_bounds(state) and all(parameter.isfinite().all() for parameter in task.model.parameters())
    assert all(message.isprintable() for message in caplog.messages), caplog.messages


@fuzzed
@given(data=st.data())
def test_mutated_curves(data: st.DataObject, run: Path, folder: Path) -> None:
    """What is kept are rows of the file, in order, and all that were not touched."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    first = data.draw(st.integers(0, len(lines) - 1))
    odd = data.draw(mutated(lines[first]) | VALUES.map(json.dumps)).encode("utf-8", "surrogatepass")
    log = MetricsLog(folder)
    log.path.write_bytes(b"\n".join([*map(str.encode, lines[:first]), odd, *map(str.encode, lines[first + 1 :]), b""]))
    rows = read_metrics(log.path)
    untouched = [json.loads(line) for line in lines[:first] + lines[first + 1 :]]
    assert [row for row in rows if row in untouched] == untouched
    log.keep_until(6)
    kept = read_metrics(log.path)
    assert all(row["step"] <= 6 for row in kept)
    assert [row for row in untouched if row["step"] <= 6] == [row for row in kept if row in untouched]
