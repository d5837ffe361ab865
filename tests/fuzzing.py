"""How many cases the fuzz tests try: `make fuzz` raises FUZZ_FACTOR."""

from __future__ import annotations

import os


def examples(n: int) -> int:
    return n * int(os.environ.get("FUZZ_FACTOR", "1"))
