"""Whether two commits compute the same numbers: store what one computes on this machine, then compare two stores.

Run: ``PYTHONPATH=CHECKOUT python benchmarks/same_numbers.py store --out old`` with the old checkout, then the same with
the new one and ``--start-from old --out new``, then ``python benchmarks/same_numbers.py compare old new
[--tolerance 1e-6] [--differences]``, which exits 1 if an item differs by more or is missing on one side.

The package is whichever is first on the path. A store holds reconstructed scenes of the shipped weights, the numbers
of an evaluation, and of every training task the initial weights and the losses and gradients of the first steps; it
takes one thread and some minutes. ``--start-from`` loads the initial weights of another store, for a commit that draws
them in another order. Names in a store are its own: package_apis.py maps the package's API to them, in every form that
the API has had.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
import random
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from package_apis import BATCH_SIZE, PACKAGES, TASKS, Package, take
from safetensors.torch import load_file, save_file
from torch import Tensor

NUM_ROOMS = 4
SCENES = {  # photos, whether their intrinsics are given, sharpening steps (None: as shipped)
    "1_photos": (1, False, None),
    "2_photos": (2, False, None),
    "4_photos": (4, False, None),
    "8_photos": (8, False, None),
    "2_photos_given_intrinsics": (2, True, None),
    "2_photos_unsharpened": (2, False, 0),
}
STEPS, LEARNING_RATE = 3, 1e-4
NEAR_ZERO = 1e-6  # differences of what is smaller are absolute
MEASURED = re.compile(r"(^|_)(ms|seconds)(_|$)")  # names of times, which never repeat
Number = float | int | str | None
Tensors = dict[str, Tensor]
Numbers = dict[str, Number]


@dataclass(frozen=True)
class Store:
    """What one commit computed; parameters under the names that the oldest API gives them."""

    tensors: Tensors
    numbers: Numbers
    made_by: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.tensors, folder / "tensors.safetensors")
        text = json.dumps({"made_by": self.made_by, "numbers": self.numbers}, indent=0)
        (folder / "numbers.json").write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Store:
        """Read both files."""
        saved = json.loads((folder / "numbers.json").read_text())
        return cls(load_file(folder / "tensors.safetensors"), saved["numbers"], saved["made_by"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    store = commands.add_parser("store", help="compute and write a store")
    store.add_argument("--out", type=Path, required=True, metavar="DIR")
    store.add_argument("--start-from", type=Path, metavar="STORE", help="whose initial weights to train from")
    pair = commands.add_parser("compare", help="compare two stores")
    pair.add_argument("old", type=Path)
    pair.add_argument("new", type=Path)
    pair.add_argument("--tolerance", type=float, default=1e-6, help="largest difference that is let pass")
    pair.add_argument("--differences", action="store_true", help="leave out the rows of equal items")
    args = parser.parse_args()
    if args.command == "store":
        compute(None if args.start_from is None else Store.load(args.start_from)).save(args.out)
        return 0
    return compare(Store.load(args.old), Store.load(args.new), args.tolerance, args.differences)


def compute(start: Store | None) -> Store:
    """Everything of the package that is first on the path."""
    torch.set_num_threads(1)
    folder = Path(take("tokengroups.__file__")).parent  # an editable install would find modules of another checkout
    kind = next((kind for module, kind in PACKAGES.items() if (folder / module.rpartition(".")[2]).exists()), None)
    if kind is None:
        raise SystemExit(f"this package has none of the modules {', '.join(PACKAGES)}; add its API to `PACKAGES`")
    began, package = time.monotonic(), kind()
    print(f"{kind.__name__} API, package in {Path(take('tokengroups.__file__')).parent}", flush=True)
    tensors, numbers = scenes_of(package), dict(numbers_in("evaluate", package.evaluation()))
    print(f"scenes and evaluation: {time.monotonic() - began:.0f} s", flush=True)
    for name in TASKS:
        with tempfile.TemporaryDirectory() as folder:
            task = package.task(name, Path(folder))
            if start is not None:
                load_initial(task.model, start, name, package.renamed)
            back = {new: old for old, new in package.renamed.items()}
            terms = {new: old for old, new in package.terms.items()}
            for key, tensor in task.model.state_dict().items():
                tensors[f"initial/{name}/{rename(key, back)}"] = compact(tensor)
            numbers |= first_steps(task, name, back, terms)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    versions = {"torch": torch.__version__, "machine": platform.machine(), "api": kind.__name__}
    return Store(tensors, numbers, versions | {"seconds": round(time.monotonic() - began)})


def scenes_of(package: Package) -> Tensors:
    """Reconstructed scenes of all kinds of input."""
    return {
        name: tensor
        for kind, settings in SCENES.items()
        for room in range(NUM_ROOMS)
        for name, tensor in tensors_in(f"scene/{kind}/room{room}/", package.scene(room, *settings))
    }


def first_steps(task: Any, name: str, back: Mapping[str, str], terms: Mapping[str, str]) -> Numbers:
    """Losses and gradient norms of the first steps of plain AdamW."""
    numbers: Numbers = {}
    model = task.model.train()
    parameters = {key: value for key, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE)
    for step in range(STEPS):
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(step)
        losses = task.losses(task.batch(step, range(BATCH_SIZE)), step)
        optimizer.zero_grad()
        losses.total.backward()
        at = f"train/{name}/step{step + 1}"
        for term, value in {"total": losses.total, **losses.terms}.items():
            numbers[f"{at}/loss/{terms.get(term, term)}"] = value.item()
        for key, parameter in parameters.items():
            gradient = parameter.grad
            norm = None if gradient is None else gradient.double().norm().item()
            numbers[f"{at}/grad/{rename(key, back)}"] = norm
        optimizer.step()
    return numbers


def load_initial(model: torch.nn.Module, start: Store, name: str, renamed: Mapping[str, str]) -> None:
    """Give a task's model the weights that another store's model began with."""
    head = f"initial/{name}/"
    state = {key.removeprefix(head): value for key, value in start.tensors.items() if key.startswith(head)}
    model.load_state_dict({rename(key, renamed): value for key, value in state.items()})


def rename(name: str, table: Mapping[str, str]) -> str:
    """Exchange the longest of the table's prefixes that the name has."""
    prefix = max((prefix for prefix in table if name.startswith(prefix)), key=len, default="")
    return table[prefix] + name.removeprefix(prefix) if prefix else name


def compact(tensor: Tensor) -> Tensor:
    """A copy in half precision where that loses nothing, as with shipped weights."""
    half = tensor.half()
    return (half if torch.equal(half.to(tensor.dtype), tensor) else tensor).clone().contiguous()


def tensors_in(prefix: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested dataclasses and mappings, by their path of names."""
    if isinstance(value, Tensor):
        yield prefix.removesuffix("."), value.detach().clone().contiguous()
    elif dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from tensors_in(f"{prefix}{name}.", item)


def numbers_in(name: str, value: Any) -> Iterator[tuple[str, Number]]:
    """All numbers of plain values but times, and the checksum of the data; None where a number is undefined."""
    last = name.rpartition("/")[2]
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from numbers_in(f"{name}/{key}", item)
    elif not MEASURED.search(last) and (not isinstance(value, str) or last == "data_sha256"):
        yield name, value


def compare(old: Store, new: Store, tolerance: float, only_differences: bool = False) -> int:
    """Print one row an item; returns the exit code."""
    for label, store in (("old", old), ("new", new)):
        print(f"{label}: {', '.join(f'{key} {value}' for key, value in store.made_by.items())}")
    left, right = old.tensors | old.numbers, new.tensors | new.numbers
    counts = {"equal": 0, "within tolerance": 0, "above tolerance": 0, "missing": 0}
    for name in sorted({*left, *right}):
        if name not in left or name not in right:
            kind, text = "missing", "only in the old" if name in left else "only in the new"
        elif is_equal(left[name], right[name]):
            kind, text = "equal", "equal"
        else:
            change = difference(left[name], right[name])
            kind, text = ("within" if change <= tolerance else "above") + " tolerance", f"{change:.2e}"
        counts[kind] += 1
        if kind != "equal" or not only_differences:
            print(f"{text:<16}{name}")
    print(f"{len({*left, *right})} items: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    return int(counts["above tolerance"] + counts["missing"] > 0)


def is_equal(old: Tensor | Number, new: Tensor | Number) -> bool:
    """Whether two items are the same to the bit, in shape and type as well."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        same = old.dtype == new.dtype and old.shape == new.shape
        return same and old.numpy().tobytes() == new.numpy().tobytes()
    return repr(old) == repr(new)


def difference(old: Tensor | Number, new: Tensor | Number) -> float:
    """Norm of the difference over the larger norm, or alone near zero; infinite where that means nothing."""
    if old is None or new is None or isinstance(old, str) or isinstance(new, str):
        return math.inf
    first, second = (torch.as_tensor(value, dtype=torch.float64) for value in (old, new))
    if first.shape != second.shape:
        return math.inf
    change, size = (first - second).norm().item(), max(first.norm().item(), second.norm().item())
    found = change / size if size > NEAR_ZERO else change
    return found if math.isfinite(found) else math.inf


if __name__ == "__main__":
    raise SystemExit(main())
