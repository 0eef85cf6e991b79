"""The primitive that carries everything that must be agreed on.

Purpose: a folder of write-once JSON records numbered 1, 2, 3 …, on any backend that can create a
file only if it is absent. Any number of processes and hosts append; numbers are dense, never
given twice, and each caller learns its own, through lost answers as well.

Calling sequence: make `Sequence(backend, folder)`; `last()` finds the newest number, `append()`
adds a record. Every record carries an `owner`, the id of the request that made it, which is how a
request recognises its own record when the answer was lost.

What readers see: whole records; number N is there only if 1 … N - 1 are.

What a crash leaves: a record or none. The caller's intent, written before, says what to look for.

The rules are those of docs/format.md, "Appending to a sequence".
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import Final

from modeldrop import layout
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.batch import Batch, Pending
from modeldrop.errors import BackendError, BackendRefused, BucketNotFound, OutcomeUnknown
from modeldrop.form import owner_of
from modeldrop.structs import Frozen

# With the pauses below, a store may stay silent for about half a minute before a caller hears
# "unknown".
_ATTEMPTS: Final = 8
_PAUSE_FIRST: Final = 0.05
_PAUSE_MOST: Final = 8.0
# A store that goes silent takes a minute for each attempt, and gets no second one.
_LONGEST: Final = 45.0
# After so many conflicts in a row, look how far the others have come.
_GALLOP_AFTER: Final = 4
# As many names as any store lists in one request.
_PAGE: Final = 1000


class Appended(Frozen):
    """The record that bears the caller's owner."""

    number: int
    data: bytes
    created: bool
    """Whether it is what this call sent; False if an equal request was earlier, or accepted."""
    conflicts: int


class Sequence:
    """A sequence of write-once records in one folder of a backend."""

    def __init__(self, backend: Backend, folder: str) -> None:
        """Read and append below `folder`, a key without a slash at its end."""
        self._backend = backend
        self.folder = folder

    def key(self, number: int) -> str:
        """Return the key of a record."""
        return layout.numbered(self.folder, number)

    def read(self, number: int) -> bytes | None:
        """Return record `number`, or None if it is absent."""
        if number <= 0:
            return None
        return patiently(lambda: self._backend.read(self.key(number)))

    def last(self, seen: int = 0) -> int:
        """Return the newest number, 0 if there is none, going on from one that was seen.

        Costs about twice the logarithm of how many were added since, or one request where one
        listing shows it.
        """
        return self._listed(seen)[0] if self._lists(seen) else self._gallop(seen)

    def since(self, seen: int) -> tuple[int, bool]:
        """Return the newest number as `last` does, and whether the one that was seen is there.

        Where it isn't, that is what was asked of the store, whatever a listing said. At 999, 1999 …
        it isn't looked for where a listing would show it, and taken to be there.
        """
        if not self._lists(seen):
            there = not seen or self.exists(seen)
            return (self._gallop(seen) if there else seen), there
        newest, there = self._listed(seen)
        return newest, there or self.exists(seen)

    def _lists(self, seen: int) -> bool:
        return seen > 0 and self._backend.capabilities.lists_by_prefix

    def _listed(self, seen: int) -> tuple[int, bool]:
        """Return what one listing shows of the numbers from one that was seen on.

        It lists the names that begin as that number and the next one do: ten numbers mostly, and
        never more than a page holds, or it gallops.
        """
        spelled = layout.digits(seen)
        prefix = spelled.rstrip("9")[:-1]
        span = 10 ** (len(spelled) - len(prefix))
        if span > _PAGE:
            # Once in a thousand numbers: the look at the one that was seen would cost a request
            # more than there are for a registration, and isn't what keeps numbers apart.
            return self._gallop(seen), True
        names = patiently(lambda: list(self._backend.children(self.folder, prefix)))
        numbers = {number for name in names if (number := layout.number_of(name))}
        newest = max(numbers, default=0)
        if not numbers.issuperset(range(seen, newest + 1)):
            # There are no gaps, and a listing has no digest: what was seen flipped or behind is
            # asked for number by number.
            return self._gallop(seen), seen in numbers
        # Past the last number that it could show there may be more.
        if newest >= seen and (newest + 1) % span == 0:
            newest = self.last(newest)
        return max(newest, seen), seen in numbers

    def _gallop(self, seen: int) -> int:
        low, step = seen, 1
        while self.exists(low + step):
            low += step
            # 1, 2, 4, 8 …: mostly there is one more, and then two requests tell.
            step = low - seen
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if self.exists(middle):
                low = middle
            else:
                high = middle
        return low

    def exists(self, number: int) -> bool:
        """Return whether record `number` is there."""
        return patiently(lambda: self._backend.stat(self.key(number))) is not None

    def numbers(self) -> list[int]:
        """Return all numbers that are there, in order, by listing: for those who look for gaps."""
        found = (layout.number_of(name) for name in self._backend.children(self.folder))
        return sorted(number for number in found if number)

    def find(self, owner: str, starts_at: int) -> tuple[int, bytes] | int:
        """Return the record of this owner at or above a number, or the first absent number."""
        number = starts_at
        while (data := self.read(number)) is not None:
            if self._owner(number, data) == owner:
                return number, data
            number += 1
        return number

    def confirm(self, number: int) -> None:
        """Make sure that a record that was read lasts; see `Backend.confirm`.

        Raises:
            BackendError: that isn't known.
        """
        self._backend.confirm(self.key(number))

    def append(
        self,
        make: Callable[[int], bytes],
        *,
        owner: str,
        at: int,
        shared: bool = False,
        accept: Callable[[int, bytes], bool] | None = None,
    ) -> Appended:
        """Append the record that `make` gives for the number it gets; return that number.

        Args:
            make: gives the record of a number. It is called once a number, and what it gave is
                sent again, unchanged, when an answer was lost.
            owner: what the record carries as its `owner`.
            at: the first number to try: one above the newest that the caller knows of.
            shared: other callers may append with the same owner, and all are to get one record.
                Then no number may be passed over unread.
            accept: asked of another owner's record that took the number, once it is the last one
                that is known: whether it will do, so that nothing is appended.

        Raises:
            OutcomeUnknown: the store doesn't say whether it happened. The intent stays open.
            BackendError: it did not happen.
        """
        number, conflicts = at, 0
        while True:
            data = make(number)
            found = create_once(self._backend, self.key(number), data, owner)
            if found is None:
                return Appended(number, data, created=True, conflicts=conflicts)
            if self._owner(number, found) == owner:
                return Appended(number, found, created=found == data, conflicts=conflicts)
            conflicts += 1
            if not shared and (self._lists(number) or conflicts % _GALLOP_AFTER == 0):
                newest = self.last(number)
                if newest != number:
                    number, found = newest, self.read(newest)
            if accept is not None and found is not None and accept(number, found):
                return Appended(number, found, created=False, conflicts=conflicts)
            number += 1
            time.sleep(random.uniform(0, min(0.01 * 2 ** min(conflicts, 6), 0.5)))  # noqa: S311 - jitter, no secret
            if shared:
                # Others are at it, and to see that a number is taken costs half of trying it.
                there = self.find(owner, number)
                if not isinstance(there, int):
                    self.confirm(there[0])
                    return Appended(*there, created=False, conflicts=conflicts)
                number = there

    def append_in(self, batch: Batch, at: int, records: Several[bytes]) -> list[Pending] | None:
        """Have records appended with a batch, under the numbers from `at` on.

        Each has its number once the batch has given it its name; the first whose number is taken
        by then ends the row. None where this backend shares no waits; then nothing was done.
        """
        pending: list[Pending] = []
        for number, data in enumerate(records, at):
            each = self._backend.create_among(batch, self.key(number), data)
            if each is None:
                return None
            pending.append(each)
        return pending

    def _owner(self, number: int, data: bytes) -> str:
        return _owner(self._backend, self.key(number), data)


def create_once(backend: Backend, key: str, data: bytes, owner: str) -> bytes | None:
    """Create a record if it is absent; return None if it was, else the record that is there.

    What is there may be what this call sent, where an answer was lost: the owner tells.

    Raises:
        OutcomeUnknown: the store doesn't say whether it happened.
        BackendError: it did not happen.
    """
    pause, answered, refused = _PAUSE_FIRST, False, True
    trouble: BackendError | None = None
    until = time.monotonic() + _LONGEST
    for attempt in range(_ATTEMPTS):
        if attempt and time.monotonic() > until:
            break
        try:
            if backend.create(key, data):
                return None
            answered, refused = True, False
        except BackendError as error:
            trouble = error
            refused = refused and isinstance(error, BackendRefused | BucketNotFound)
        found: bytes | None = None
        try:
            found = backend.read(key)
        except BackendError as error:
            trouble = trouble or error
        # Ours, but no call has answered yet: the backend failed after making it visible,
        # perhaps before making it durable. Asked once more, it either confirms or fails.
        if found is not None and (answered or _owner(backend, key, found) != owner):
            return found
        if found is None and trouble is not None and refused:
            # The store said no each time, so it did not happen.
            raise trouble
        time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter, no secret
        pause = min(pause * 2, _PAUSE_MOST)
    why = trouble or "the store says that it is there, and doesn't show it"
    message = f"whether {backend.url}/{key} was written is unknown: {why}"
    raise OutcomeUnknown(
        message,
        hint="run the same command again: it finds out, and does nothing twice",
        detail={"key": key, "owner": owner},
    ) from trouble


def _owner(backend: Backend, key: str, data: bytes) -> str:
    return owner_of(data, f"{backend.url}/{key}")
