"""A metric over versions as a picture: SVG, written here, or PNG, by Matplotlib."""

from __future__ import annotations

import io
from typing import Final
from xml.sax.saxutils import escape

from modeldrop.errors import UsageError
from modeldrop.names import printable
from modeldrop_cli.charts import Chart, marks, spelled

_WIDTH: Final = 800
_HEIGHT: Final = 450
_LEFT: Final = 80
_RIGHT: Final = 20
_TOP: Final = 50
_BOTTOM: Final = 50
_POINT: Final = "#1f6feb"
_BEST: Final = "#d1242f"


def svg(chart: Chart) -> str:
    """Return a chart as an SVG document; each point says its version and value."""
    down = marks(min(chart.values), max(chart.values))
    across = _whole_marks(chart)
    low, high = min(chart.versions), max(chart.versions)

    def x_of(version: float) -> float:
        span = _WIDTH - _LEFT - _RIGHT
        return _LEFT + span * ((version - low) / (high - low) if high > low else 0.5)

    def y_of(value: float) -> float:
        span = _HEIGHT - _TOP - _BOTTOM
        return _TOP + span * (down[-1] - value) / (down[-1] - down[0])

    title = escape(printable(chart.title))
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    font = 'font-family="sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
        f"<title>{title}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_WIDTH / 2}" y="28" text-anchor="middle" font-size="16">{title}</text>',
    ]
    for number in down:
        y = f"{y_of(number):.1f}"
        parts.append(
            f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" stroke="#d0d7de"/>'
        )
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end" dominant-baseline="middle">'
            f"{spelled(number)}</text>"
        )
    foot = _HEIGHT - _BOTTOM
    parts.extend(
        f'<text x="{x_of(number):.1f}" y="{foot + 20}" text-anchor="middle">{number}</text>'
        for number in across
    )
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 10}" text-anchor="middle">version</text>')
    places = [
        (version, value, f"{x_of(version):.1f}", f"{y_of(value):.1f}")
        for version, value in zip(chart.versions, chart.values, strict=True)
    ]
    way = " ".join(f"{x},{y}" for _, _, x, y in places)
    parts.append(f'<polyline points="{way}" fill="none" stroke="{_POINT}" stroke-opacity="0.4"/>')
    for version, value, x, y in places:
        colour, radius = (_BEST, 6) if version == chart.best else (_POINT, 4)
        parts.append(
            f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{colour}">'
            f"<title>{version}: {value!r}</title></circle>"
        )
    return "\n".join([*parts, "</svg>", ""])


def png(chart: Chart) -> bytes:
    """Return a chart as a PNG image.

    Raises:
        UsageError: Matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to load
    except ImportError:
        raise UsageError(
            "a PNG is drawn by Matplotlib, and that isn't installed",
            hint="`pip install 'modeldrop[plot]'`, or write an SVG: `-o FILE.svg`",
        ) from None
    figure = Figure(figsize=(_WIDTH / 100, _HEIGHT / 100), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(chart.versions, chart.values, color=_POINT, alpha=0.4)
    colours = [_BEST if each == chart.best else _POINT for each in chart.versions]
    axes.scatter(chart.versions, chart.values, color=colours, zorder=3)
    axes.set_xticks(_whole_marks(chart))
    # A name with a dollar in it is no formula.
    axes.set_title(printable(chart.title), parse_math=False)
    axes.set_xlabel("version")
    axes.grid(axis="y", color="#d0d7de")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _whole_marks(chart: Chart) -> list[int]:
    low, high = min(chart.versions), max(chart.versions)
    found = {round(number) for number in marks(low, high, 9)} if high > low else {low}
    return sorted(number for number in found if low <= number <= high)
