"""A pickle read opcode by opcode, with nothing imported, called or built.

What a pickle would make is played through with stand-ins: `Imported` for what it imports, `Made`
for what it makes by calling that. So the names that it takes from its own texts and memo are known,
too, as STACK_GLOBAL needs, which a search through the opcodes alone would miss.

Python's pickletools reads whatever length an argument claims, and knows nothing of the raw arrays
that joblib leaves between opcodes; what it says of each opcode is what is followed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modeldrop.formats.description import DamagedError, TooMuchError, count_elements
from modeldrop.formats.source import Bounded
from modeldrop.formats.standins import (
    MOST_ITEMS,
    Imported,
    Items,
    Made,
    Pairs,
    Persistent,
    dtype_of,
)
from modeldrop.formats.texts import decoded

_CHUNK: Final = 64 * 2**10
# A text of which more is needed is none that a name could be.
_MOST_TEXT: Final = 1024
# How many opcodes are followed between two looks at the clock.
_TURNS: Final = 512
_MOST_LINE: Final = 2**16
_MOST_OBJECTS: Final = 1_000_000

WRAPPER: Final = "joblib.numpy_pickle.NumpyArrayWrapper"
UNKNOWN: Final = "?"
"""Stands for a name that the pickle computes."""


class _Mark:
    pass


_MARK: Final = _Mark()
# What is of no further interest: numbers with a fraction, long bytes.
_OTHER: Final = object()
_Step = Callable[["Walk"], None]


class Walk:
    """One pickle from a place on; then `result` is what it would make, `end` where it ends."""

    def __init__(
        self, source: Bounded, at: int = 0, imports: dict[str, None] | None = None
    ) -> None:
        """Take note of what it imports in `imports`, in that order."""
        self._source = source
        self._data = b""
        self._base = at
        self._pos = 0
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}
        self._objects = 0
        self.imports: dict[str, None] = {} if imports is None else imports
        self.arrays: list[tuple[str, tuple[int, ...]]] = []
        self.result: object = None
        self.end = at

    def run(self) -> None:
        """Follow it up to its STOP.

        Raises:
            DamagedError: it is cut off, or isn't what Python reads.
            TooMuchError: to go on would take too much.
        """
        steps, turns = _STEPS, 0
        try:
            while True:
                turns += 1
                if turns % _TURNS == 0:
                    self._source.meter.check()
                if self._pos >= len(self._data):
                    self._fill(1)
                opcode = self._data[self._pos]
                self._pos += 1
                if opcode == _STOP:
                    break
                step = steps.get(opcode)
                if step is None:
                    message = f"no opcode is {opcode:#04x}, at byte {self.at - 1} of its pickle"
                    raise DamagedError(message)
                step(self)
            self.result = self._stack.pop()
        except IndexError as error:
            message = f"its pickle takes what it hasn't made, at byte {self.at}"
            raise DamagedError(message) from error
        self.end = self.at

    # Bytes

    @property
    def at(self) -> int:
        """Where it stands."""
        return self._base + self._pos

    def _fill(self, count: int) -> None:
        self._base += self._pos
        self._pos = 0
        self._data = self._source.upto(self._base, max(count, _CHUNK))
        if len(self._data) < count:
            message = f"it is cut off: its pickle goes on at byte {self._base + len(self._data)}"
            raise DamagedError(message)

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if self._pos + count > len(self._data):
            self._fill(count)
        data = self._data[self._pos : self._pos + count]
        self._pos += count
        return data

    def skip(self, count: int) -> None:
        """Pass over the next bytes, without reading them."""
        if self.at + count > self._source.size:
            message = (
                f"it is cut off: {count} bytes are said to follow byte {self.at} of its pickle"
            )
            raise DamagedError(message)
        if self._pos + count <= len(self._data):
            self._pos += count
        else:
            self._base += self._pos + count
            self._pos, self._data = 0, b""

    def number(self, count: int) -> int:
        """Return the next bytes as a number without a sign."""
        return int.from_bytes(self.take(count), "little")

    def line(self) -> str:
        """Return what comes before the next newline."""
        stop = self._data.find(b"\n", self._pos)
        if stop < 0:
            self._fill(1)
            stop = self._data.find(b"\n", 0, _MOST_LINE)
            if stop < 0:
                message = f"no line ends after byte {self.at} of its pickle"
                raise DamagedError(message)
        data = self._data[self._pos : stop]
        self._pos = stop + 1
        return decoded(data)

    def text(self, width: int) -> None:
        """Push a text that has its length before it; of a long one, that there is one."""
        length = self.number(width)
        if length > _MOST_TEXT:
            self.skip(length)
            self.push(_OTHER)
        else:
            self.push(decoded(self.take(length)))

    def bytes(self, width: int) -> None:
        """Push that there are bytes."""
        self.skip(self.number(width))
        self.push(_OTHER)

    # The stack

    def push(self, value: object) -> None:
        """Put something onto the stack."""
        self._objects += 1
        if self._objects > _MOST_OBJECTS:
            message = f"its pickle makes more than {_MOST_OBJECTS} objects"
            raise TooMuchError(message)
        self._stack.append(value)

    def pop(self) -> object:
        """Take something from the stack."""
        return self._stack.pop()

    def top(self) -> object:
        """Return what is on top of the stack."""
        return self._stack[-1]

    def above_mark(self) -> list[object]:
        """Take from the stack what is above the last mark, and the mark."""
        stack = self._stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError
        values = stack[at + 1 :]
        del stack[at:]
        return values

    def remember(self, key: int) -> None:
        """Keep what is on top of the stack under a number."""
        self._memo[key] = self._stack[-1]

    def memoize(self) -> None:
        """Keep what is on top of the stack under the next number."""
        self._memo[len(self._memo)] = self._stack[-1]

    def recall(self, key: int) -> None:
        """Push what is kept under a number."""
        if key not in self._memo:
            raise IndexError
        self.push(self._memo[key])

    def found(self, name: str) -> Imported:
        """Take note of an import."""
        if len(self.imports) < MOST_ITEMS:
            self.imports[name] = None
        return Imported(name)

    def import_computed(self) -> None:
        """Push what two texts on the stack name."""
        name, module = self.pop(), self.pop()
        if isinstance(name, str) and isinstance(module, str):
            self.push(self.found(f"{module}.{name}"))
        else:
            self.push(self.found(UNKNOWN))

    def call(self) -> None:
        """Push what a call makes."""
        arguments, by = self.pop(), self.pop()
        self.push(Made(by, arguments))

    def build(self) -> None:
        """Give what is on top its state; what joblib has put after it is passed over."""
        state, made = self.pop(), self.top()
        if isinstance(made, Made):
            made.state = state
            if isinstance(made.by, Imported) and made.by.name == WRAPPER:
                self._pass_array(state)

    def set_items(self, flat: list[object]) -> None:
        """Put pairs into what is on top."""
        of = self.top()
        if isinstance(of, Made):
            of.items = of.items or Pairs()
            of.items.add(flat)
        elif isinstance(of, Pairs):
            of.add(flat)

    def add_items(self, values: list[object]) -> None:
        """Put values into what is on top."""
        of = self.top()
        if isinstance(of, Items):
            of.add(values)

    def _pass_array(self, state: object) -> None:
        found = state if isinstance(state, Pairs) else Pairs()
        shape, dtype = found.get("shape"), found.get("dtype")
        item, objects, name = dtype_of(dtype)
        lengths = tuple(shape) if isinstance(shape, tuple) else ()
        if item is None or not all(isinstance(each, int) for each in lengths):
            message = f"an array at byte {self.at} is of a type that isn't known"
            raise TooMuchError(message)
        sizes = tuple(each for each in lengths if isinstance(each, int))
        if objects:
            inner = Walk(self._source, self.at, self.imports)
            inner.run()
            self.skip(inner.end - self.at)
        else:
            if isinstance(found.get("numpy_array_alignment_bytes"), int):
                self.skip(self.number(1))
            self.skip(count_elements(sizes) * item)
        if len(self.arrays) < MOST_ITEMS:
            self.arrays.append((name, sizes))


_STOP: Final = ord(".")


def _pushing(value: object) -> _Step:
    return lambda walk: walk.push(value)


def _skipping(count: int, *, push: bool = False) -> _Step:
    def step(walk: Walk) -> None:
        walk.take(count)
        if push:
            walk.push(_OTHER)

    return step


def _whole(count: int, *, signed: bool = False) -> _Step:
    return lambda walk: walk.push(int.from_bytes(walk.take(count), "little", signed=signed))


def _long(width: int) -> _Step:
    def step(walk: Walk) -> None:
        length = walk.number(width)
        if length > _MOST_TEXT:
            walk.skip(length)
            walk.push(_OTHER)
        else:
            walk.push(int.from_bytes(walk.take(length), "little", signed=True))

    return step


def _number_line(walk: Walk) -> None:
    text = walk.line().rstrip("L")
    if text in ("00", "01"):
        walk.push(text == "01")
    else:
        walk.push(int(text) if text.lstrip("-").isdecimal() and len(text) < 100 else _OTHER)


def _float_line(walk: Walk) -> None:
    walk.line()
    walk.push(_OTHER)


def _text_line(walk: Walk) -> None:
    text = walk.line()
    walk.push(text.strip("'\"") if len(text) <= _MOST_TEXT else _OTHER)


def _global(walk: Walk) -> None:
    module, name = walk.line(), walk.line()
    walk.push(walk.found(f"{module}.{name}"))


def _inst(walk: Walk) -> None:
    module, name = walk.line(), walk.line()
    made = Made(walk.found(f"{module}.{name}"), tuple(walk.above_mark()))
    walk.push(made)


def _obj(walk: Walk) -> None:
    by, *arguments = walk.above_mark() or [None]
    walk.push(Made(by, tuple(arguments)))


def _new_with_keywords(walk: Walk) -> None:
    walk.pop()
    walk.call()


def _extension(width: int) -> _Step:
    def step(walk: Walk) -> None:
        walk.take(width)
        walk.push(walk.found(UNKNOWN))

    return step


def _tuple(count: int) -> _Step:
    def step(walk: Walk) -> None:
        values = [walk.pop() for _ in range(count)]
        walk.push(tuple(reversed(values)))

    return step


def _marked_dict(walk: Walk) -> None:
    pairs = Pairs()
    pairs.add(walk.above_mark())
    walk.push(pairs)


def _append(walk: Walk) -> None:
    walk.add_items([walk.pop()])


def _set_item(walk: Walk) -> None:
    value, key = walk.pop(), walk.pop()
    walk.set_items([key, value])


def _keep(walk: Walk) -> None:
    walk.top()


def _pop(walk: Walk) -> None:
    walk.pop()


def _pop_to_mark(walk: Walk) -> None:
    walk.above_mark()


def _get_line(walk: Walk) -> None:
    walk.recall(_index(walk))


def _put_line(walk: Walk) -> None:
    walk.remember(_index(walk))


def _index(walk: Walk) -> int:
    text = walk.line()
    if not text.isdecimal() or len(text) > 9:
        raise IndexError
    return int(text)


_BY_TEXT: Final[dict[str, _Step]] = {
    "(": _pushing(_MARK),
    "0": _pop,
    "1": _pop_to_mark,
    "2": lambda walk: walk.push(walk.top()),
    "F": _float_line,
    "I": _number_line,
    "L": _number_line,
    "J": _whole(4, signed=True),
    "K": _whole(1),
    "M": _whole(2),
    "N": _pushing(None),
    "P": lambda walk: walk.push(Persistent(walk.line())),
    "Q": lambda walk: walk.push(Persistent(walk.pop())),
    "R": Walk.call,
    "S": _text_line,
    "T": lambda walk: walk.text(4),
    "U": lambda walk: walk.text(1),
    "V": _text_line,
    "X": lambda walk: walk.text(4),
    "a": _append,
    "b": Walk.build,
    "c": _global,
    "d": _marked_dict,
    "}": lambda walk: walk.push(Pairs()),
    "e": lambda walk: walk.add_items(walk.above_mark()),
    "g": _get_line,
    "h": lambda walk: walk.recall(walk.number(1)),
    "j": lambda walk: walk.recall(walk.number(4)),
    "i": _inst,
    "l": lambda walk: walk.push(Items(walk.above_mark())),
    "]": lambda walk: walk.push(Items()),
    "o": _obj,
    "p": _put_line,
    "q": lambda walk: walk.remember(walk.number(1)),
    "r": lambda walk: walk.remember(walk.number(4)),
    "s": _set_item,
    "t": lambda walk: walk.push(tuple(walk.above_mark())),
    ")": _pushing(()),
    "u": lambda walk: walk.set_items(walk.above_mark()),
    "G": _skipping(8, push=True),
    "B": lambda walk: walk.bytes(4),
    "C": lambda walk: walk.bytes(1),
}
_BY_NUMBER: Final[dict[int, _Step]] = {
    0x80: _skipping(1),
    0x81: Walk.call,
    0x82: _extension(1),
    0x83: _extension(2),
    0x84: _extension(4),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    0x88: _pushing(value=True),
    0x89: _pushing(value=False),
    0x8A: _long(1),
    0x8B: _long(4),
    0x8C: lambda walk: walk.text(1),
    0x8D: lambda walk: walk.text(8),
    0x8E: lambda walk: walk.bytes(8),
    0x8F: lambda walk: walk.push(Items()),
    0x90: lambda walk: walk.add_items(walk.above_mark()),
    0x91: lambda walk: walk.push(Items(walk.above_mark())),
    0x92: _new_with_keywords,
    0x93: Walk.import_computed,
    0x94: Walk.memoize,
    0x95: _skipping(8),
    0x96: lambda walk: walk.bytes(8),
    0x97: _pushing(_OTHER),
    0x98: _keep,
}
_STEPS: Final = {**{ord(each): step for each, step in _BY_TEXT.items()}, **_BY_NUMBER}
