"""What a run will take, said before it starts, and what it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokengroups.cli.output import counted, note
from tokengroups.errors import UserError

if TYPE_CHECKING:
    from tokengroups.systems import SceneSystem

NOTICE_SECONDS, NOTICE_SHARE = 20.0, 0.5  # of the free memory: below both nothing is said
_FEW_OPERATIONS = 5e11  # take no 20 seconds on any processor: not worth timing a product


def announce(model: SceneSystem, num_photos: int, size_hw: tuple[int, int], device: str) -> None:
    """Print an estimate of seconds and memory where they are much for this machine.

    Raises:
        UserError: More memory is needed than is free; its line says how many photos fit.
    """
    from tokengroups.systems import cost

    found = cost.estimate(model, num_photos, size_hw, 1.0)
    if found is None:
        return
    slow = False
    if found.operations > _FEW_OPERATIONS:
        found = cost.estimate(model, num_photos, size_hw, cost.measured_rate(device)) or found
        slow = found.seconds > NOTICE_SECONDS
    free = cost.free_bytes(device)
    much = free is not None and found.bytes > NOTICE_SHARE * free
    if not slow and not much:
        return
    height, width = size_hw
    line = f"{counted(num_photos, 'photo')} at {width}x{height}: about {found.bytes / 1e9:.2g} GB"
    if free is not None and found.bytes > free:
        most = cost.most_photos(model, size_hw, free, num_photos)
        cure = f"use --max-views {most}" if most else "give a smaller --size"
        raise UserError(f"{line}, and {free / 1e9:.2g} GB of memory are free; {cure}")
    line += f", {duration(found.seconds)} on this {'GPU' if device.startswith('cuda') else 'CPU'}"
    if much and free is not None:
        most = cost.most_photos(model, size_hw, int(NOTICE_SHARE * free), num_photos)
        line += f"; {free / 1e9:.2g} GB are free" + (f", use --max-views {most} to spare them" if most else "")
    note(line)


def peak_gb(device: str) -> float | None:
    """The most memory that this process has had, in GB."""
    from tokengroups.systems.cost import peak_bytes

    peak = peak_bytes(device)
    return None if peak is None else round(peak / 1e9, 3)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, to two digits."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    return f"{float(f'{seconds:.2g}'):g} s"
