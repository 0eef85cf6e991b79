"""Sizes and ages as people write them: 10G, 500MiB, 7d, 12h."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

import click

_AMOUNT: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([A-Za-z]*)")
_SIZES: Final = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_AGES: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class Size(click.ParamType[int]):
    """A number of bytes: 10G and 10GiB are 10 times 2^30."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number of bytes."""
        found = _AMOUNT.fullmatch(str(value))
        unit = found[2].lower().removesuffix("ib") if found else "?"
        if found is None or unit not in _SIZES:
            self.fail(f"{value!r} is no size; write 10G, 500M or 0", param, ctx)
        return int(float(found[1]) * _SIZES[unit])


class Age(click.ParamType[timedelta]):
    """A time that has passed: 7d, 12h."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the time."""
        found = _AMOUNT.fullmatch(str(value))
        seconds = float(found[1]) * _AGES.get(found[2].lower(), 0) if found else 0.0
        if found is None or found[2].lower() not in _AGES or seconds > timedelta.max.days * 3600:
            self.fail(f"{value!r} is no age; write 7d, 12h or 2w", param, ctx)
        return timedelta(seconds=seconds)
