"""Reading the next batch in a background thread while the current one is being learnt."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Prefetcher:
    """Calls ``read(step)`` one step ahead. Order cannot change results: `read` is a pure function of the step."""

    def __init__(self, read: Callable[[int], Any], last_step: int) -> None:
        self.read, self.last_step = read, last_step
        self.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self.pending: tuple[int, Future[Any]] | None = None

    def get(self, step: int) -> Any:
        """The data of `step`; errors of the reader are raised here. Starts reading `step` + 1."""
        if self.pending is None or self.pending[0] != step:
            self.pending = (step, self.pool.submit(self.read, step))
        result = self.pending[1].result()
        self.pending = None
        if step + 1 < self.last_step:
            self.pending = (step + 1, self.pool.submit(self.read, step + 1))
        return result

    def close(self) -> None:
        """Stop the thread; what it was reading is dropped."""
        self.pool.shutdown(wait=True, cancel_futures=True)
