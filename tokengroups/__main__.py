"""`python -m tokengroups`."""

from __future__ import annotations

from tokengroups.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
