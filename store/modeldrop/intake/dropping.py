"""Putting files into staging whole: copied aside, synced, and renamed into the run's folder.

What is dropped so is complete at once. The `_SUCCESS` that comes last names every file, so a scan
knows it without having seen the rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from modeldrop import files
from modeldrop.errors import DropRefused
from modeldrop.intake.temporary import temporary
from modeldrop.intake.walk import OWN_PREFIX
from modeldrop.names import (
    MARKER,
    RECEIPT,
    RUN_FILES,
    check_experiment,
    check_guid,
    new_guid,
    parse_guid,
    printable,
    refuse_component,
)


def new_run(staging: Path, experiment: str | None = None) -> str:
    """Make a new run's staging folder; return its GUID.

    Raises:
        InvalidName: the experiment's name isn't valid.
    """
    run = new_guid()
    with _aside(staging) as aside:
        _declare(aside, experiment)
        files.sync_tree(aside)
        files.rename(aside, staging / run)
    return run


def drop(
    staging: Path,
    paths: Sequence[Path],
    *,
    run: str | None = None,
    experiment: str | None = None,
) -> str:
    """Copy files and folders into a run's staging folder, whole; return the run's GUID.

    A new run appears by one rename. Into a run that is there each entry is renamed, replacing one
    of the same name, and `_SUCCESS` last.

    Raises:
        InvalidName: the GUID or the experiment's name isn't valid.
        DropRefused: a path isn't there, or holds what can't be stored; nothing is dropped then.
    """
    guid = check_guid(run) if run is not None else new_guid()
    names = _check(paths)
    target = _folder_of(staging, guid)
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir()):
        message = f"{printable(str(target))} is in the way: it is no folder"
        raise DropRefused(message, hint="remove it; a run's folder is made by the drop")
    with _aside(staging) as aside:
        for path in paths:
            _copy(path, aside / _name(path))
        _declare(aside, experiment)
        _mark(aside, names)
        files.sync_tree(aside)
        try:
            files.rename_if_absent(aside, target)
        except FileExistsError:
            # It was there, or another rank of the same run has just been quicker.
            _merge(aside, target)
    return guid


def _folder_of(staging: Path, guid: str) -> Path:
    """Return the run's folder, under the spelling that it has in staging already."""
    with contextlib.suppress(FileNotFoundError), os.scandir(staging) as entries:
        for entry in entries:
            if parse_guid(entry.name) == guid:
                return Path(entry.path)
    return staging / guid


def _check(paths: Sequence[Path]) -> list[str]:
    """Return the names of the artifacts that these paths become."""
    names: list[str] = []
    for path in paths:
        shown = printable(str(path))
        name = _name(path)
        if not path.exists():
            message = f"there is no file or folder {shown}"
            raise DropRefused(message, hint="name files or folders that are there")
        if name in names:
            message = f"two of the paths are named {printable(name)!r}"
            raise DropRefused(message, hint="drop them into two runs, or rename one")
        if not name or name in (MARKER, RECEIPT) or name in RUN_FILES:
            message = f"{shown} can't be an artifact: its name has a meaning of its own"
            raise DropRefused(message, hint="rename it, or drop it inside of a folder")
        names.append(name)
        _check_tree(path, shown)
    return names


def _check_tree(path: Path, shown: str) -> None:
    # The path that was named may be a link, as `latest.pt` often is; inside, links are refused.
    inner = list(path.rglob("*")) if path.is_dir() else []
    for each in (path, *inner):
        why = _refuse(each, is_named=each is path)
        if why:
            inside = f"{shown}: {printable(str(each.relative_to(path)))}"
            message = f"{shown if each is path else inside} can't be stored: {why}"
            raise DropRefused(message, hint="leave only regular files in what you drop")
    if path.is_dir() and not any(each.is_file() for each in inner):
        message = f"{shown} has no file in it"
        raise DropRefused(message, hint="drop a folder that holds a model")


def _refuse(path: Path, *, is_named: bool) -> str | None:
    """Return why an entry of what is dropped can't be stored, or None if it can."""
    if path.is_symlink() and not is_named:
        return "it is a symbolic link"
    if not (path.is_file() or path.is_dir()):
        return "it is no regular file"
    name = _name(path) if is_named else path.name
    if temporary(name):
        # In staging it would hold the run open for ever.
        return "its name is that of something temporary"
    return refuse_component(name)


def _name(path: Path) -> str:
    # `drop .` and `drop model/..` mean the folder's real name.
    return path.name if path.name not in ("", "..") else path.resolve().name


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)


def _declare(folder: Path, experiment: str | None) -> None:
    if experiment is not None:
        text = json.dumps({"experiment": check_experiment(experiment)}) + "\n"
        (folder / "run.json").write_text(text, "utf-8")


def _mark(folder: Path, names: Sequence[str]) -> None:
    """Write the marker: the paths that make the drop complete, one a line."""
    paths = []
    for name in sorted(names):
        whole = folder / name
        inner = sorted(each for each in whole.rglob("*") if each.is_file())
        paths += inner if whole.is_dir() else [whole]
    # With the `./`, no name can be taken for a line of sha256sum.
    lines = "".join(f"./{each.relative_to(folder)}\n" for each in paths)
    (folder / MARKER).write_text(lines, "utf-8")


def _merge(aside: Path, target: Path) -> None:
    """Move what was put together aside into a run that is there; the marker goes last.

    An older marker goes first: it calls complete what is about to be replaced. A crash in between
    leaves a run without a marker, which the quiet time completes.
    """
    files.remove_durable(target / MARKER)
    entries = sorted(aside.iterdir(), key=lambda each: each.name == MARKER)
    for entry in entries:
        there = target / entry.name
        if there.is_dir() and not there.is_symlink():
            shutil.rmtree(there)
        elif entry.is_dir():
            there.unlink(missing_ok=True)
        files.rename(entry, there)


@contextlib.contextmanager
def _aside(staging: Path) -> Iterator[Path]:
    aside = staging / f"{OWN_PREFIX}drop-{secrets.token_hex(8)}"
    files.make_folders(aside)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
