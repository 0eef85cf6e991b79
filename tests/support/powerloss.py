"""What a power loss may leave of what was recorded: the states of the disk that are allowed.

docs/decisions/0105 says what is allowed and why. In short: a change that was waited for is there.
Each other one is there or not, whatever became of those around it: a name by itself, a write by
itself, and of the last write that came a half, or its size and no bytes. A rename is one change.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modeldrop.files import is_temp_name
from support.recording import (
    Event,
    Linked,
    Recording,
    Renamed,
    Said,
    Site,
    Synced,
    Truncated,
    Unlinked,
    Wrote,
)

LOST: Final = "lost"
HALF: Final = "half"
ZEROS: Final = "zeros"
BOTH: Final = "both"

# Of how many changes that weren't waited for each pair is lost: the last ones.
_PAIRED: Final = 10
_BLOCK: Final = 4096

Lost = Mapping[int, str]
"""What became of changes that are not there as they were made, by their place in the recording."""

Content = tuple[str, bytes]
"""A kind of node, and the bytes of a file or of where a link leads."""

Key = frozenset[tuple[str, Content]]
"""What tells a state from others: what is at which path."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something that a power loss may leave."""

    recording: Recording
    at: int
    """Before which event the power went."""
    lost: Lost
    tree: Mapping[str, Content]
    """What is at each path below the folder."""
    nodes: Mapping[str, int]
    told: int
    """How many answers the caller had by then."""

    def key(self) -> Key:
        """Return what tells it from others: nobody reads temporary files, or locks."""
        return frozenset(each for each in self.tree.items() if _counts(each[0]))


class Losses:
    """The states that a recording allows."""

    def __init__(
        self, recording: Recording, without: Callable[[Synced], bool] | None = None
    ) -> None:
        """Take waits for the disk that `without` is true of for left out."""
        self.recording = recording
        self._events = recording.events
        self._durable = [_NEVER] * len(self._events)
        self._source_durable = [_NEVER] * len(self._events)
        self._above = _above(recording)
        self._spared = _spared(recording, self._above)
        for at, event in enumerate(self._events):
            if isinstance(event, Synced) and not (without and without(event)):
                self._cover(at, event.node)

    def _cover(self, sync: int, node: int | None) -> None:
        way = frozenset(self._way(node))
        for at, event in enumerate(self._events[:sync]):
            # What a dead process has made of the way to a folder lasts with what is in that.
            by_the_dead = at < self.recording.begun and getattr(event, "node", None) in way
            if self._durable[at] == _NEVER and (
                _waits(event, node) or (by_the_dead and isinstance(event, Linked))
            ):
                self._durable[at] = sync
            if (
                isinstance(event, Renamed)
                and self._source_durable[at] == _NEVER
                and node in (None, event.folder)
            ):
                self._source_durable[at] = sync

    def _way(self, node: int | None) -> Iterator[int]:
        """Yield a folder and those above it."""
        while node is not None and self.recording.nodes[node].kind == "folder":
            yield node
            node = self._above.get(node, (None, ""))[0]

    def before(self, at: int) -> Iterator[Left]:
        """Yield what may be left if the power goes before an event."""
        told = len(self.recording.told(at))
        for lost in self._choices(at):
            tree, nodes = self._tree(at, lost)
            yield Left(self.recording, at, lost, tree, nodes, told)

    def all(self) -> Iterator[Left]:
        """Yield all that may be left, wherever the power goes; the same may come again."""
        for at in range(self.recording.begun, len(self._events) + 1):
            yield from self.before(at)

    def beyond(self, other: Losses) -> Iterator[Left]:
        """Yield what may be left where these waits cover other changes than others do."""
        for at in range(self.recording.begun, len(self._events) + 1):
            if any(
                (mine < at) != (theirs < at)
                for mine, theirs in zip(
                    self._durable[:at] + self._source_durable[:at],
                    other._durable[:at] + other._source_durable[:at],
                    strict=True,
                )
            ):
                yield from self.before(at)

    def answered(self) -> Iterator[Left]:
        """Yield what may be left if the power goes right after an answer."""
        for at in range(self.recording.begun, len(self._events)):
            if isinstance(self._events[at], Said):
                yield from self.before(at + 1)

    def _choices(self, at: int) -> Iterator[Lost]:
        pending = [
            each
            for each in range(at)
            if self._durable[each] >= at and not isinstance(self._events[each], Synced | Said)
        ]
        mine = [each for each in pending if each not in self._spared]
        names = [each for each in mine if not isinstance(self._events[each], Wrote | Truncated)]
        data = [each for each in mine if isinstance(self._events[each], Wrote | Truncated)]
        half_done = {
            each: BOTH for each in range(at) if self._may_be_both(each, at) and each not in mine
        }
        yield {}
        yield half_done
        yield dict.fromkeys(pending, LOST) | half_done
        yield from ({each: LOST} for each in mine)
        for each in mine:
            yield from ({each: how} for how in self._variants(each))
        yield from (
            {first: LOST, second: LOST}
            for first, second in itertools.combinations(mine[-_PAIRED:], 2)
        )
        for number, each in enumerate(mine):
            # Each alone, and as many as came before it.
            yield {other: LOST for other in mine if other != each}
            yield dict.fromkeys(mine[number:], LOST)
        yield dict.fromkeys(data, LOST)
        yield {each: ZEROS for each in data if isinstance(self._events[each], Wrote)}
        yield dict.fromkeys(names, LOST)
        for group in self._groups(mine):
            yield dict.fromkeys(group, LOST)

    def _variants(self, at: int) -> Iterator[str]:
        event = self._events[at]
        if isinstance(event, Wrote) and event.data:
            yield HALF
            yield ZEROS
        if self._may_be_both(at, at + 1):
            yield BOTH

    def _may_be_both(self, at: int, before: int) -> bool:
        """Return whether a file may have its old name beside its new one, in another folder."""
        event = self._events[at]
        return (
            isinstance(event, Renamed)
            and event.folder != event.to_folder
            and self.recording.nodes[event.node].kind == "file"
            and self._source_durable[at] >= before
        )

    def _groups(self, pending: Iterable[int]) -> Iterator[list[int]]:
        """Yield the changes of each folder, and those of each file."""
        groups: dict[tuple[str, int], list[int]] = {}
        for each in pending:
            event = self._events[each]
            if isinstance(event, Wrote | Truncated):
                groups.setdefault(("file", event.node), []).append(each)
            elif isinstance(event, Renamed):
                groups.setdefault(("folder", event.to_folder), []).append(each)
            elif isinstance(event, Linked | Unlinked):
                groups.setdefault(("folder", event.folder), []).append(each)
        yield from groups.values()

    def _tree(self, at: int, lost: Lost) -> tuple[dict[str, Content], dict[str, int]]:
        nodes = self.recording.nodes
        entries = {each: dict(node.entries) for each, node in nodes.items()}
        data: dict[int, bytes] = {}
        for number, event in enumerate(self._events[:at]):
            how = lost.get(number)
            if how != LOST:
                _apply(event, how, entries, data, nodes)
        tree: dict[str, Content] = {}
        found: dict[str, int] = {}

        def walk(folder: int, path: str) -> None:
            for name, node in entries[folder].items():
                there = f"{path}{name}"
                kind = nodes[node].kind
                tree[there] = kind, data.get(node, nodes[node].data)
                found[there] = node
                if kind == "folder":
                    walk(node, f"{there}/")

        walk(0, "")
        return tree, found


_NEVER: Final = 1 << 60


def _waits(event: Event, node: int | None) -> bool:
    """Return whether an event is on the disk once a node was waited for, or with None all was."""
    if node is None:
        return True
    if isinstance(event, Wrote | Truncated):
        return event.node == node
    if isinstance(event, Renamed):
        # Only then is the new name sure. The old one may be there still: see `_may_be_both`.
        return event.to_folder == node
    return isinstance(event, Linked | Unlinked) and event.folder == node


def _apply(
    event: Event,
    how: str | None,
    entries: dict[int, dict[str, int]],
    data: dict[int, bytes],
    nodes: Mapping[int, object],
) -> None:
    if isinstance(event, Linked):
        entries[event.folder][event.name] = event.node
    elif isinstance(event, Unlinked):
        if entries[event.folder].get(event.name) == event.node:
            del entries[event.folder][event.name]
    elif isinstance(event, Renamed):
        if how != BOTH and entries[event.folder].get(event.name) == event.node:
            del entries[event.folder][event.name]
        entries[event.to_folder][event.to_name] = event.node
    elif isinstance(event, Truncated):
        before = data.get(event.node, getattr(nodes[event.node], "data", b""))
        data[event.node] = before[: event.size].ljust(event.size, b"\0")
    elif isinstance(event, Wrote):
        before = data.get(event.node, getattr(nodes[event.node], "data", b""))
        data[event.node] = _written(before, event, how)


def _written(before: bytes, event: Wrote, how: str | None) -> bytes:
    put = event.data
    if how == HALF:
        # Where blocks end, if it has several.
        whole = len(put) // 2
        put = put[: whole // _BLOCK * _BLOCK or whole]
    elif how == ZEROS:
        put = bytes(len(put))
    end = event.offset + len(put)
    return before[: event.offset].ljust(event.offset, b"\0") + put + before[end:]


def _above(recording: Recording) -> dict[int, tuple[int, str]]:
    """Return where each node got its first name."""
    above: dict[int, tuple[int, str]] = {}
    for folder, node in recording.nodes.items():
        above.update((child, (folder, name)) for name, child in node.entries.items())
    for event in recording.events:
        if isinstance(event, Linked):
            above.setdefault(event.node, (event.folder, event.name))
    return above


def _spared(recording: Recording, above: Mapping[int, tuple[int, str]]) -> frozenset[int]:
    """Return the events at locks, which say nothing that anybody relies on."""

    def path(node: int) -> str:
        names: list[str] = []
        while node in above:
            node, name = above[node]
            names.insert(0, name)
        return "/".join(names)

    spared: set[int] = set()
    for number, event in enumerate(recording.events):
        if isinstance(event, Wrote | Truncated):
            where = path(event.node)
        elif isinstance(event, Linked | Unlinked):
            where = f"{path(event.folder)}/{event.name}"
        else:
            continue
        if _is_nobodys(where):
            spared.add(number)
    return frozenset(spared)


@functools.cache
def _counts(path: str) -> bool:
    return not _is_nobodys(path) and not any(map(is_temp_name, path.split("/")))


def _is_nobodys(path: str) -> bool:
    parts = path.split("/")
    return "locks" in parts[:-1] or parts[-1] == "lock" or parts[-1].endswith(".lock")


def first(recording: Recording) -> Left:
    """Return what is there before anything was done."""
    return next(Losses(recording).before(0))


def final(recording: Recording) -> Left:
    """Return what is there if nothing is lost."""
    return next(Losses(recording).before(len(recording.events)))


def there(root: Path) -> dict[str, Content]:
    """Return what is in a folder."""
    found: dict[str, Content] = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            if path.is_symlink():
                content = "link", os.fsencode(os.readlink(path))
            else:
                content = ("folder", b"") if path.is_dir() else ("file", path.read_bytes())
            found[os.fspath(path.relative_to(root))] = content
    return found


def told(left: Left) -> str:
    """Return for people what a state is."""
    recording = left.recording
    where = {node: path for path, node in final(recording).nodes.items()}

    def named(event: Event) -> str:
        if isinstance(event, Linked | Unlinked):
            what = "name" if isinstance(event, Linked) else "removal"
            return f"{what} {where.get(event.folder, '?')}/{event.name}"
        if isinstance(event, Renamed):
            return f"rename {event.name} -> {where.get(event.to_folder, '?')}/{event.to_name}"
        return f"{type(event).__name__} {where.get(getattr(event, 'node', -1), '?')}"

    lost = ", ".join(f"{how}: {named(recording.events[at])}" for at, how in left.lost.items())
    return f"before event {left.at}, after {left.told} answers; {lost or 'nothing is lost'}"


def sites(recording: Recording) -> frozenset[Site]:
    """Return every line of the product that led to a wait for the disk."""
    return frozenset(
        site for each in recording.events if isinstance(each, Synced) for site in each.sites
    )


def put_back(left: Left, root: Path, kept: Sequence[Path]) -> None:
    """Have a folder hold what is left.

    The folders `kept` stay the same ones, with the inodes that they have: a home is known by its
    own. Those that are missing in what is left wait beside the folder meanwhile.
    """
    recording, aside = left.recording, root.with_name(f"{root.name}-kept")
    aside.mkdir(exist_ok=True)
    for number, each in enumerate(kept):
        # Where it waits already, what is there was made by whoever found it missing.
        if each.exists() and not (aside / str(number)).exists():
            each.rename(aside / str(number))
    shutil.rmtree(root)
    root.mkdir()
    known = {os.fspath(each.relative_to(root)): number for number, each in enumerate(kept)}
    mtimes = {
        event.node: event.mtime for event in recording.events[: left.at] if isinstance(event, Wrote)
    }
    for path, (kind, data) in left.tree.items():
        place = root / path
        node = left.nodes[path]
        mode = recording.nodes[node].mode
        if kind == "folder":
            if path in known and (aside / str(known[path])).exists():
                (aside / str(known[path])).rename(place)
                _empty(place)
            else:
                place.mkdir(mode)
        elif kind == "link":
            place.symlink_to(os.fsdecode(data))
        else:
            place.write_bytes(data)
            place.chmod(mode)
            mtime = mtimes.get(node, recording.nodes[node].mtime)
            os.utime(place, ns=(mtime, mtime))


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
