"""The checker that jaxtyping's import hook puts on every function of the package during the tests."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

# PEP 484: an int is welcome where a float is asked for, as type checkers hold it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
