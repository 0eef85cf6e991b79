"""Putting files into staging whole: copied aside, synced, and renamed into the run's folder.

What is dropped so is complete at once. The `_SUCCESS` that comes last names every file, so a scan
knows it without having seen the rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from modeldrop import disk, files
from modeldrop.errors import DropRefused, NotFound, SourceChanged
from modeldrop.form import Fields
from modeldrop.intake import joining, lease, marker
from modeldrop.intake.aside import aside as _aside
from modeldrop.intake.aside import held_open, remove_stale
from modeldrop.intake.declared import ORDER
from modeldrop.intake.joining import SAID
from modeldrop.intake.notation import NotUnderstood
from modeldrop.intake.observation import Signature
from modeldrop.intake.temporary import temporary
from modeldrop.metadata import NOTHING, Metadata
from modeldrop.names import (
    MARKER,
    RECEIPT,
    RUN_FILES,
    check_experiment,
    check_guid,
    is_artifact_name,
    new_guid,
    parse_guid,
    printable,
    refuse_component,
)
from modeldrop.structs import Frozen, field


def new_run(
    staging: Path,
    experiment: str | None = None,
    *,
    metadata: Metadata = NOTHING,
    register: bool = False,
) -> str:
    """Make a new run's staging folder, with what is said of the run; return its GUID.

    Raises:
        InvalidName: the experiment's name isn't valid.
    """
    run = new_guid()
    with _aside(staging) as aside:
        _declare(aside, experiment, metadata, register=register)
        disk.sync_tree(aside)
        files.rename(aside, staging / run)
    return run


def drop(
    staging: Path,
    paths: Sequence[Path],
    *,
    run: str | None = None,
    experiment: str | None = None,
    home: Path | None = None,
    metadata: Metadata = NOTHING,
    register: bool = False,
) -> str:
    """Copy files and folders into a run's staging folder, whole; return the run's GUID.

    A new run appears by one rename. Into a run that is there each entry is renamed, replacing one
    of the same name, and `_SUCCESS` last; a drop that is cut short in between leaves the run held
    open until the same is dropped again. Who writes to a file is asked only after
    `lease.prepare`. What is said of the run goes into its `run.json`, over what that says already;
    but of the code and where it ran, what was said first stands.

    Raises:
        InvalidName: the GUID or the experiment's name isn't valid.
        DropRefused: a path isn't there, holds what can't be stored, is being written to, or is
            or holds modeldrop's own; or the run names its experiment itself, or has a `run.json`
            that can't be understood. Nothing is dropped.
        SourceChanged: a file changed while it was copied; nothing is dropped.
    """
    guid = check_guid(run) if run is not None else new_guid()
    sources = _check(paths, {"the staging folder": staging, "the home": home})
    target = _folder_of(staging, guid)
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir()):
        message = f"{printable(str(target))} is in the way: it is no folder"
        raise DropRefused(message, hint="remove it; a run's folder is made by the drop")
    for name in ORDER[: ORDER.index(SAID)]:
        if experiment is not None and os.path.lexists(target / name):
            # It goes before the run.json that the drop would write.
            message = f"run {guid} names its experiment in its {name}"
            raise DropRefused(message, hint=f"leave `-e` out, or change the {name}")
    if experiment is not None or metadata or register:
        try:
            joining.said_in(target / SAID)
        except NotUnderstood as error:
            message = f"run {guid} has a {SAID} to which nothing can be added: {error}"
            raise DropRefused(message, hint=f"correct {target / SAID}, or remove it") from None
    remove_stale(staging)
    with _aside(staging) as aside:
        network: dict[int, bool] = {}
        for source in sources:
            _copy(source, aside / source.name, network)
        _declare(aside, experiment, metadata, register=register)
        _mark(aside, sources)
        disk.sync_tree(aside)
        _check_unchanged(sources)
        _put(aside, target)
    return guid


def _put(aside: Path, target: Path) -> None:
    """Give what was put together aside its place, in a run that is there or as a new one."""
    while True:
        try:
            files.rename_if_absent(aside, target)
        except FileExistsError:
            # It was there, or another rank of the same run has just been quicker. If the service
            # moves or deletes it just now, because it is stored, it isn't there any more.
            with contextlib.suppress(NotFound), _aside(target.parent) as old:
                _merge(aside, target, old)
                return
        else:
            return


class _Source(Frozen):
    """What a named path held when it was looked at; the keys are relative to it."""

    path: Path
    name: str
    files: dict[Path, Signature] = field(default_factory=dict)
    folders: dict[Path, int] = field(default_factory=dict)


def _folder_of(staging: Path, guid: str) -> Path:
    """Return the run's folder, under the spelling that it has in staging already."""
    with contextlib.suppress(FileNotFoundError), os.scandir(staging) as entries:
        for entry in entries:
            if parse_guid(entry.name) == guid:
                return Path(entry.path)
    return staging / guid


def _check(paths: Sequence[Path], own: Mapping[str, Path | None]) -> list[_Source]:
    """Return what the paths hold; the name of each is the artifact that it becomes."""
    sources: list[_Source] = []
    for path in paths:
        shown = printable(str(path))
        name = _name(path)
        if not path.exists():
            message = f"there is no file or folder {shown}"
            raise DropRefused(message, hint="name files or folders that are there")
        for what, folder in own.items():
            if folder is not None:
                _refuse_own(path, what, folder.resolve())
        if name in [each.name for each in sources]:
            message = f"two of the paths are named {printable(name)!r}"
            raise DropRefused(message, hint="drop them into two runs, or rename one")
        if not name or name in (MARKER, RECEIPT) or name in RUN_FILES:
            message = f"{shown} can't be an artifact: its name has a meaning of its own"
            raise DropRefused(message, hint="rename it, or drop it inside of a folder")
        sources.append(_look(path))
    return sources


def _refuse_own(path: Path, what: str, own: Path) -> None:
    """Refuse what is, holds or is in one of modeldrop's own folders: it would copy itself."""
    real = path.resolve()
    if real == own:
        how = "is"
    elif own.is_relative_to(real):
        how = "holds"
    elif real.is_relative_to(own):
        how = "is in"
    else:
        return
    message = f"{printable(str(path))} can't be dropped: it {how} {what} {printable(str(own))}"
    raise DropRefused(message, hint="name the model's own files or folders, outside of that")


def _look(path: Path) -> _Source:
    """Return what is at a path, or refuse it."""
    shown = printable(str(path))
    source = _Source(path, _name(path))
    waiting = [Path()]
    while waiting:
        inner = waiting.pop()
        whole = path / inner
        # The path that was named may be a link, as `latest.pt` often is; inside they are refused.
        named = inner == Path()
        status = whole.stat() if named else whole.lstat()
        if why := _refuse(source.name if named else inner.name, status.st_mode):
            which = shown if named else f"{shown}: {printable(str(inner))}"
            message = f"{which} can't be stored: {why}"
            raise DropRefused(message, hint="leave only regular files in what you drop")
        if stat.S_ISDIR(status.st_mode):
            source.folders[inner] = stat.S_IMODE(status.st_mode)
            waiting.extend(inner / name for name in os.listdir(whole))
        else:
            source.files[inner] = Signature.of(status)
    if not source.files:
        message = f"{shown} has no file in it"
        raise DropRefused(message, hint="drop a folder that holds a model")
    return source


def _refuse(name: str, mode: int) -> str | None:
    """Return why an entry of what is dropped can't be stored, or None if it can."""
    if stat.S_ISLNK(mode):
        return "it is a symbolic link"
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "it is no regular file"
    if temporary(name):
        # In staging it would hold the run open for ever.
        return "its name is that of something temporary"
    return refuse_component(name)


def _check_unchanged(sources: Sequence[_Source]) -> None:
    for source in sources:
        try:
            same = _look(source.path) == source
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            raise _changed(source.path)


def _changed(path: Path) -> SourceChanged:
    shown = printable(str(path))
    return SourceChanged(
        f"{shown} changed while it was copied: nothing is dropped",
        hint="drop it again once nobody writes to it",
        detail={"path": shown},
    )


def _name(path: Path) -> str:
    # `drop .` and `drop model/..` mean the folder's real name.
    return path.name if path.name not in ("", "..") else path.resolve().name


def _copy(source: _Source, target: Path, network: dict[int, bool]) -> None:
    for inner, mode in source.folders.items():
        (target / inner).mkdir()
        # Whatever it was, this process has to fill it.
        (target / inner).chmod(mode & 0o777 | stat.S_IRWXU)
    for inner, seen in source.files.items():
        _copy_file(source.path / inner, target / inner, seen, network)


def _copy_file(path: Path, target: Path, seen: Signature, network: dict[int, bool]) -> None:
    """Copy a file that nobody writes to; `network` remembers which devices can't tell that."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise _changed(path) from None
    try:
        if seen.device not in network:
            network[seen.device] = lease.is_network(path)
        _check_quiet(fd, path, seen, ask=not network[seen.device])
        shutil.copyfile(path, target)
        _check_quiet(fd, path, seen, ask=not network[seen.device])
    finally:
        os.close(fd)


def _check_quiet(fd: int, path: Path, seen: Signature, *, ask: bool) -> None:
    if Signature.of(os.fstat(fd)) != seen:
        raise _changed(path)
    if ask and lease.probe(fd) is lease.Writers.SOME:
        message = f"{printable(str(path))} is being written to: a program has it open for writing"
        raise DropRefused(message, hint="drop it again once that program has closed it")


def _declare(folder: Path, experiment: str | None, metadata: Metadata, *, register: bool) -> None:
    says: Fields = {} if experiment is None else {"experiment": check_experiment(experiment)}
    if register:
        says["register"] = True
    says.update(metadata.as_json())
    if metadata.datasets:
        # As a table, to which a later drop can add.
        says["datasets"] = {each.name: each.sha256 for each in metadata.datasets}
    if says:
        (folder / SAID).write_text(json.dumps(says) + "\n", "utf-8")


def _mark(folder: Path, sources: Sequence[_Source]) -> None:
    """Write the marker: the paths that make the drop complete, one a line."""
    paths = sorted(Path(source.name) / inner for source in sources for inner in source.files)
    # With the `./`, no name can be taken for a line of sha256sum.
    lines = "".join(f"./{path}\n" for path in paths).encode()
    # A longer list than a scan reads is left out: all of it is there when the marker comes.
    (folder / MARKER).write_bytes(lines if len(lines) <= marker.MOST_BYTES else b"")


def _merge(aside: Path, target: Path, old: Path) -> None:
    """Move what was put together aside into a run that is there; the marker goes last.

    An older marker goes first: it calls complete what is about to be replaced. What was there is
    moved away whole, into `old`, so that no part of it can be taken for the whole.
    """
    entries = sorted(aside.iterdir(), key=lambda each: each.name == MARKER)
    with held_open(target, [each.name for each in entries if is_artifact_name(each.name)], old):
        files.remove_durable(target / MARKER)
        for entry in entries:
            if entry.name == SAID and not joining.join(entry, target / SAID):
                continue
            there = target / entry.name
            if os.path.lexists(there) and (entry.is_dir() or there.is_dir()):
                files.rename(there, old / entry.name)
            files.rename(entry, there)
