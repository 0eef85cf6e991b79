"""Files that are lost, one at a time, and strange ones that somebody put among them."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from support.damage import GONE, Expected, Judge
from support.questions import Told
from support.world import PENDING, World

# What a home may lose, since it is a hint or can be made again: nobody has to name that.
_MADE_AGAIN: Final = re.compile(
    r"(locks|refs|objects|index|service|torn|staging|manifests|journals|intents)/.*|pushed\.json"
)
# What was never acknowledged, and what only its own host knows of.
_NOT_MISSED: Final = re.compile(
    rf"\.modeldrop/(experiments/{PENDING}/.*|journals/[^/]*/00000004\.jsonl)"
)
_QUESTIONS: Final = {
    "store": ("verify", "show", "pull", "register", "promote", "deploy", "scan", "collect"),
    "home": ("verify", "show", "register", "scan", "search", "path", "settle"),
    "serving": ("verify", "deploy", "show"),
}


def lose(root: str, whole: dict[str, Any], where: str) -> dict[str, Any]:
    """Remove each file of the `store`, the `home` or the target in turn."""
    world = World(Path(root))
    top = {"store": world.store, "home": world.home, "serving": world.serving}[where]
    paths = sorted(each for each in top.rglob("*") if each.is_symlink() or each.is_file())
    done: dict[str, Any] = {}
    for question in _QUESTIONS[where]:
        judge = Judge(world, question, Told(**whole[question]))
        for path in paths:
            name = str(path.relative_to(top))
            path.unlink()
            judge.judge(f"{name} lost", _expected(question, where, name), GONE)
        done[question] = asdict(judge.tally())
    return done


def _expected(question: str, where: str, name: str) -> Expected:
    if question != "verify":
        return "any"
    if where == "store":
        return "either" if _NOT_MISSED.fullmatch(name) else "told"
    if where == "home":
        return "either" if _MADE_AGAIN.fullmatch(name) else "told"
    return "either"


def add(root: str, whole: dict[str, Any]) -> dict[str, Any]:
    """Put strange files into each folder of the store in turn."""
    world = World(Path(root))
    folders = [world.store, *(each for each in world.store.rglob("*") if each.is_dir())]
    done: dict[str, Any] = {}
    for question in ("list", "register", "scan", "verify"):
        judge = Judge(world, question, Told(**whole[question]))
        for folder in folders:
            for name, data in _STRANGE:
                path = folder / name
                path.write_bytes(data)
                what = f"{path.relative_to(world.store)} added"
                judge.judge(what, "either" if question == "verify" else "same")
        done[question] = asdict(judge.tally())
    return done


_STRANGE: Final = (
    ("notes.txt", b"of somebody"),
    (".tmp-0123456789abcdef", b"half"),
    ("000000001.json", b"{}"),
    ("00000001.json.bak", b"{}"),
    ("\udcff.json", b""),
)
