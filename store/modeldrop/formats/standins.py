"""Stand-ins for what a pickle would make, none of which is made.

They are never compared, hashed or printed as a whole: a pickle can nest them without end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from modeldrop.structs import Frozen, Struct, field

# How many are kept of what is in one list or dict.
MOST_ITEMS: Final = 200_000


class Imported(Frozen, eq=False):
    """What a pickle imports: `collections.OrderedDict`."""

    name: str


class Made(Struct, eq=False):
    """What a pickle makes by a call, and what it gives it as its state."""

    by: object
    arguments: object
    state: object = None
    items: Pairs | None = None


class Items(Struct, eq=False):
    """A list or a set."""

    values: list[object] = field(default_factory=list)

    def add(self, values: Iterable[object]) -> None:
        """Put more in, as far as they are kept."""
        if len(self.values) < MOST_ITEMS:
            self.values.extend(values)


class Pairs(Struct, eq=False):
    """A dict, in its order."""

    pairs: list[tuple[object, object]] = field(default_factory=list)

    def add(self, flat: list[object]) -> None:
        """Put keys and values in, one after the other."""
        if len(self.pairs) < MOST_ITEMS:
            self.pairs.extend(zip(flat[::2], flat[1::2], strict=False))

    def get(self, key: str) -> object:
        """Return the value of a text key, or None."""
        return next((v for k, v in self.pairs if isinstance(k, str) and k == key), None)


class Persistent(Frozen, eq=False):
    """What whoever loads the pickle finds by an id, such as a storage of PyTorch's."""

    id: object


def dtype_of(made: object) -> tuple[int | None, bool, str]:
    """Return the bytes of an element, whether it is an object, and its name, of a numpy.dtype."""
    if not isinstance(made, Made) or not isinstance(made.arguments, tuple) or not made.arguments:
        return None, False, ""
    name = made.arguments[0]
    if not isinstance(name, str):
        return None, False, ""
    if name.startswith("O"):
        return 8, True, name
    state = made.state
    order = state[1] if isinstance(state, tuple) and len(state) > 5 else ""
    shown = f"{order}{name}" if isinstance(order, str) else name
    letter, count = name[:1], name[1:]
    if not count.isdecimal() or len(count) > 9:
        return (1 if name == "?" else None), False, shown
    if letter == "V" and isinstance(state, tuple) and len(state) > 4 and state[4] is not None:
        return None, False, shown
    sizes = {"U": 4 * int(count), "M": 8, "m": 8}
    known = letter in "biufcSaV"
    return sizes.get(letter, int(count) if known else None), False, shown
