"""What all small classes are made of.

They are msgspec's structs and not dataclasses: the code of those is written out and compiled anew
at each start, which was a quarter of the time of a command (docs/decisions/0137).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, dataclass_transform

from msgspec import Struct, field

if TYPE_CHECKING:
    # That of msgspec takes whatever it is given; of this, type checkers look at each argument.
    from dataclasses import replace
else:
    from msgspec.structs import replace

__all__ = ["Frozen", "Struct", "field", "replace"]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Frozen(Struct, frozen=True):
    """A struct that never changes: equal to one with equal fields, and hashed by them."""
