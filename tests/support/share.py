"""One of several equal shares of something long, for a machine that has no time for all of it.

Whatever has a name is in exactly one share, and in the same one each time.
"""

from __future__ import annotations

import argparse
import zlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """The `number`th of `of` shares, from 1 on."""

    number: int = 1
    of: int = 1

    def __contains__(self, name: str) -> bool:
        """Return whether what has this name is in it."""
        return zlib.crc32(name.encode()) % self.of == self.number - 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "2/3".

        Raises:
            argparse.ArgumentTypeError: it is no share.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise argparse.ArgumentTypeError(
                f"a share is like 2/3, which is the second of three, not {text!r}"
            )
        return cls(int(number), int(of))
