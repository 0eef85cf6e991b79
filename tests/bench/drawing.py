"""Curves on two logarithmic axes as SVG: text without a script or a font of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 860
_HEIGHT: Final = 480
_LEFT: Final = 80
_RIGHT: Final = 230
_TOP: Final = 50
_BOTTOM: Final = 60
_LINE: Final = 20
# Ours are the strong ones; a peer has the same one in every picture.
_OURS: Final = ("#d1242f", "#e85aad", "#cf6a00")
_COLOURS: Final = (
    *("#1f6feb", "#1a7f37", "#8250df", "#57606a", "#0598bc", "#9a6700", "#bf3989"),
    *("#116329", "#0a3069", "#6e7781", "#a475f9", "#4d2d00", "#2da44e", "#ff80c8"),
)
_DASHES: Final = ("", "6 3", "2 3")


@dataclass(frozen=True)
class Curves:
    """A picture: for each name the points of its curve, each a place and a value above zero."""

    title: str
    across: str
    up: str
    points: Mapping[str, Sequence[tuple[float, float]]]
    ours: Sequence[str]
    places: Sequence[float]
    """Where the axis that goes across has its marks."""
    place: Callable[[float], str]
    value: Callable[[float], str]


def svg(curves: Curves, everybody: Sequence[str]) -> str:
    """Return a picture; `everybody` are all names that may be on one, in the order of colours."""
    values = [value for points in curves.points.values() for _, value in points]
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(values) * 1.0001))
    first, last = min(curves.places), max(curves.places)

    def x_of(place: float) -> float:
        part = math.log(place / first) / math.log(last / first) if last > first else 0.5
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        part = math.log(value / low) / math.log(high / low)
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)

    parts = [*_head(curves.title), *_axes(curves, x_of, y_of, low, high)]
    # Ours last, so that nothing hides them; in the legend first.
    names = sorted(curves.points, key=lambda name: name not in curves.ours)
    for name in reversed(names):
        parts += _curve(curves, name, x_of, y_of, _style(curves, name, everybody))
    for row, name in enumerate(names):
        colour, dash, width = _style(curves, name, everybody)
        x, y = _WIDTH - _RIGHT + 20, _TOP + row * _LINE
        parts.append(
            f'<line x1="{x}" y1="{y}" x2="{x + 28}" y2="{y}" stroke="{colour}"'
            f' stroke-width="{width}" stroke-dasharray="{dash}"/>'
        )
        parts.append(f'<text x="{x + 36}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def blank(title: str, reason: str) -> str:
    """Return a picture that has no curves, and says why."""
    x, y = _LEFT, _HEIGHT / 2
    return "\n".join(
        [*_head(title), f'<text x="{x}" y="{y}">{escape(reason)}</text>', "</svg>", ""]
    )


def _head(title: str) -> list[str]:
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"'
            ' font-family="sans-serif" font-size="13">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="28" font-size="16">{escape(title)}</text>',
    ]


def _axes(
    curves: Curves,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
    low: float,
    high: float,
) -> list[str]:
    parts = []
    foot, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = f"{y_of(10.0**power):.1f}"
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{end}" y2="{y}" stroke="#d0d7de"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end" dominant-baseline="middle">'
            f"{escape(curves.value(10.0**power))}</text>"
        )
    for place in curves.places:
        x = f"{x_of(place):.1f}"
        parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{foot}" stroke="#eaeef2"/>')
        parts.append(
            f'<text x="{x}" y="{foot + 20}" text-anchor="middle">'
            f"{escape(curves.place(place))}</text>"
        )
    middle = (_LEFT + end) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(curves.across)}</text>'
    )
    parts.append(
        f'<text transform="translate(18 {(_TOP + foot) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(curves.up)}</text>"
    )
    return parts


def _style(curves: Curves, name: str, everybody: Sequence[str]) -> tuple[str, str, float]:
    if name in curves.ours:
        return _OURS[list(curves.ours).index(name) % len(_OURS)], "", 3
    number = list(everybody).index(name)
    return _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)], 1.5


def _curve(
    curves: Curves,
    name: str,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
    style: tuple[str, str, float],
) -> list[str]:
    colour, dash, width = style
    found = [
        (place, value, f"{x_of(place):.1f}", f"{y_of(value):.1f}")
        for place, value in sorted(curves.points[name])
    ]
    way = " ".join(f"{x},{y}" for _, _, x, y in found)
    parts = [
        (
            f'<polyline points="{way}" fill="none" stroke="{colour}"'
            f' stroke-width="{width}" stroke-dasharray="{dash}"/>'
        )
    ]
    parts += [
        f'<circle cx="{x}" cy="{y}" r="{width + 1.5}" fill="{colour}"><title>{escape(name)}, '
        f"{escape(curves.place(place))}: {escape(curves.value(value))}</title></circle>"
        for place, value, x, y in found
    ]
    return parts
