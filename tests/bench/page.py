"""What docs/benchmarks.md and its pictures show of what is kept under benchmarks/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import tables
from bench.drawing import Curves, blank, svg
from bench.kept import FIGURES, Measured, read
from bench.peers import ALL, BY_KEY, OURS_ALL

_NOTHING = "Not measured yet. Try: make bench KEEP=1"


def circumstances() -> None:
    """Print on what each kind was measured, and when."""
    rows = [["kind", "measured on", "machine"]]
    for kind in (FIGURES, *tables.KINDS):
        kept = read(kind)
        if kept:
            title = tables.KINDS[kind].title if kind in tables.KINDS else "Beside the bars"
            rows.append([title, kept.measured_on, _said(kept.machine)])
    _show(rows if rows[1:] else [], words=3)


def _said(machine: Mapping[str, Any]) -> str:
    return (
        "{cores} cores of {processor}, {memory_gib} GiB; Linux {kernel}, {file_system};"
        " Python {python}".format(**machine)
    )


def beside() -> None:
    """Print who is measured beside ours, and what each does and doesn't do."""
    versions: dict[str, str] = {}
    missing: set[str] = set()
    for kind in (FIGURES, *tables.KINDS):
        kept = read(kind)
        if kept:
            versions.update(kept.versions)
            missing.update(kept.missing)
    rows = [["peer", "version", "what is measured", "what it does not do"]]
    for peer in ALL:
        there = versions.get(peer.key, "was missing" if peer.key in missing else "")
        rows.append([peer.name, there, peer.does, peer.lacks])
    _show(rows, words=4)


def figures() -> None:
    """Print the figures beside their bars, and those for information."""
    kept = read(FIGURES)
    if not kept:
        _show([])
        return
    rows = [["what", "beside", "ours", "peer", "ratio", "bar", ""]]
    for each in kept.figures:
        ratio = each["ours"] / each["theirs"]
        bar = "" if each["bar"] is None else f"{each['bar']:.2f}"
        verdict = "" if each["bar"] is None else "met" if ratio <= each["bar"] else "**missed**"
        spread = f" ±{100 * each['spread']:.0f} %" if each["spread"] else ""
        shown = [_quantity(each["unit"], each["scale"], each[side]) for side in ("ours", "theirs")]
        rows.append(
            [each["name"], each["peer"], *shown, f"{ratio:.3g}{spread}", bar, verdict],
        )
    _show(rows, words=2)


def _quantity(unit: str, scale: float, number: float) -> str:
    # Times are kept in seconds; of anything else the unit says what.
    return tables.seconds(number) if unit == "ms" else f"{number * scale:.4g} {unit}"


def curve(kind: str) -> None:
    """Print the table of a kind of curves."""
    kept = read(kind)
    _show(tables.table(kept) if kept else [])


def picture(kind: str) -> None:
    """Print the picture of a kind of curves."""
    kept = read(kind)
    drawn = (
        svg(_curves(kept), tables.names()) if kept else blank(tables.KINDS[kind].title, _NOTHING)
    )
    print(drawn, end="")


def _curves(kept: Measured) -> Curves:
    kind = tables.KINDS[kept.kind]
    points: dict[str, list[tuple[float, float]]] = {}
    for each in kept.samples:
        shown = each.at, kind.shown(each.median, each.at)
        points.setdefault(BY_KEY[each.series].name, []).append(shown)
    return Curves(
        kind.title,
        kind.across,
        kind.up,
        points,
        [BY_KEY[key].name for key in OURS_ALL],
        sorted({each.at for each in kept.samples}),
        kind.place,
        kind.value,
    )


def _show(rows: list[list[str]], *, words: int = 1) -> None:
    """Print rows as a table whose first row heads it, and whose first columns are words."""
    if not rows:
        print(f"\n{_NOTHING}\n")
        return
    head, *rest = rows
    ruler = ["---" if number < words else "---:" for number in range(len(head))]
    print()
    for row in (head, ruler, *rest):
        print(f"| {' | '.join(row)} |")
    print()
