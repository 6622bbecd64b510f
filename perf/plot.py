"""Draws medians with their spread as SVG text: no library, and the same bytes for the same figures.

One chart has one panel per figure below another, runs from left to right in the order of their time.
"""

import dataclasses
import math
from html import escape

WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 210, 76, 24, 40, 46
COLOURS = ("#1f5fa8", "#b8531a", "#4c7a34", "#7a4b9a")
TICKS_MAX = 6


@dataclasses.dataclass
class Panel:
    """`series`: name → one (median, min, max), or None, per label. `level`: a value to draw a line at."""

    title: str
    labels: list
    series: dict
    level: float = None


def chart(panels):
    """One SVG document."""
    height = PANEL_HEIGHT * len(panels)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for number, panel in enumerate(panels):
        out.append(f'<g transform="translate(0,{number * PANEL_HEIGHT})">')
        out += draw(panel)
        out.append("</g>")
    return "\n".join([*out, "</svg>", ""])


def draw(panel):
    """The lines of one panel: axis, level, points with whiskers, legend."""
    points = [point for series in panel.series.values() for point in series if point]
    ticks = scale([value for point in points for value in point] + [panel.level or 0])
    bottom, top = ticks[0], ticks[-1]
    right, floor = WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM

    def y(value):
        return number(floor - (value - bottom) / (top - bottom) * (floor - TOP))

    yield text(LEFT, 18, panel.title, "start", weight="bold")
    for value in ticks:
        yield f'<line x1="{LEFT}" y1="{y(value)}" x2="{right}" y2="{y(value)}" stroke="#dddddd"/>'
        yield text(LEFT - 8, float(y(value)) + 4, short(value), "end")
    if panel.level:
        yield f'<line x1="{LEFT}" y1="{y(panel.level)}" x2="{right}" y2="{y(panel.level)}" stroke="#888888" ' \
              'stroke-dasharray="5 4"/>'
    slot = (right - LEFT) / max(1, len(panel.labels))
    for index, label in enumerate(panel.labels):
        yield text(LEFT + slot * (index + 0.5), floor + 18, label, "middle")
    for rank, (name, series) in enumerate(panel.series.items()):
        colour = COLOURS[rank % len(COLOURS)]
        shift = slot * ((rank + 0.5) / len(panel.series) - 0.5) * 0.5
        for index, point in enumerate(series):
            if point:
                yield from whisker(LEFT + slot * (index + 0.5) + shift, [y(value) for value in point], colour)
        x = LEFT + 150 * rank
        yield f'<circle cx="{x}" cy="{PANEL_HEIGHT - 10}" r="4" fill="{colour}"/>'
        yield text(x + 8, PANEL_HEIGHT - 6, name, "start")


def whisker(x, heights, colour):
    """The median as a dot, minimum and maximum as a bar through it."""
    median, low, high = heights
    x = number(x)
    yield f'<line x1="{x}" y1="{low}" x2="{x}" y2="{high}" stroke="{colour}" stroke-width="2"/>'
    yield f'<circle cx="{x}" cy="{median}" r="4" fill="{colour}"/>'


def scale(values):
    """Round numbers from 0, or the smallest value if that is less, to above the largest."""
    low, high = min(0, *values), max(0, *values)
    span = (high - low) * 1.05 or 1.0
    size = 10 ** math.floor(math.log10(span / TICKS_MAX))
    step = next(size * factor for factor in (1, 2, 5, 10) if span <= size * factor * TICKS_MAX)
    first, last = math.floor(low / step), math.ceil((low + span) / step)
    return [index * step for index in range(first, last + 1)]


def text(x, y, content, anchor, weight="normal"):
    """One line of text."""
    return f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" font-weight="{weight}">{escape(content)}</text>'


def number(value):
    """Coordinates to a tenth: the same on every machine."""
    return f"{value:.1f}"


def short(value):
    """A figure as people write it: three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
