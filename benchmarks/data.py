"""How fast procedural rooms are generated: views per second of one core, shadows included.

Run: ``python benchmarks/data.py [--rooms 20] [--views 8] [--size 128]``. Process CPU time is what counts, so
that other programs disturb little; a busy machine still shows lower numbers, because the cores share caches.
"""

from __future__ import annotations

import argparse
import time

from tokengroups.data.procedural import generate_room


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    args = parser.parse_args()
    generate_room(0, 0, num_views=1, size=args.size)  # warm: primitives are built once
    wall, cpu = time.perf_counter(), time.process_time()
    for index in range(args.rooms):
        generate_room(0, index, num_views=args.views, size=args.size)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    views = args.rooms * args.views
    print(f"{views} views of {args.size}x{args.size} in {args.rooms} rooms, shadows of 2-3 lights")
    print(f"{views / cpu:.1f} views/s per core (CPU time), {views / wall:.1f} views/s (wall time)")


if __name__ == "__main__":
    main()
