"""Small plots as inline SVG: lines, and values with their intervals. Colours are those of Okabe & Ito (2008)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

__all__ = ["Limit", "Line", "Spot", "interval_plot", "line_plot"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_WIDTH, _HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 34, 46
_ROW = 20
_FAR = 2
"""A limit that lies further away than so many times the width of the values is not drawn but named."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve. dots: mark its points. joined: draw the curve through them. names: what each point is called."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False
    joined: bool = True
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Spot:
    """One value with its interval, low and high None where there is none."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A value that the others of an axis are held against, and what it is called."""

    name: str
    value: float


def line_plot(
    title: str,
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    shares: bool = False,
    diagonal: bool = False,
    x_limit: Limit | None = None,
    y_limit: Limit | None = None,
) -> str:
    """Curves over common axes with a legend below. shares: both axes run from 0 to 1. diagonal: the line y = x.

    What is not finite is left out. A limit is a dashed line; one far beyond all values is named at the axis' end.
    """
    finite = [
        replace(
            one,
            x=[one.x[p] for p in places],
            y=[one.y[p] for p in places],
            names=[one.names[p] for p in places] if one.names else (),
        )
        for one in lines
        if (places := [p for p, (a, b) in enumerate(zip(one.x, one.y, strict=True)) if math.isfinite(a + b)])
    ]
    if not finite:
        return ""
    ends = (0.0, 1.0) if shares else None
    horizontal = _Axis(*(ends or _range([a for one in finite for a in one.x], x_limit)), _LEFT, _WIDTH - _RIGHT)
    vertical = _Axis(*(ends or _range([b for one in finite for b in one.y], y_limit)), _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(horizontal, vertical, x, y)]
    parts += [] if x_limit is None else [_upright(x_limit, horizontal, _HEIGHT - _BOTTOM)]
    parts += [] if y_limit is None else [_level(y_limit, vertical)]
    if diagonal:
        parts.append(_path([(0.0, 0.0), (1.0, 1.0)], horizontal, vertical, "#999999", dashed=True))
    for place, one in enumerate(finite):
        colour = _COLOURS[place % len(_COLOURS)]
        points = list(zip(one.x, one.y, strict=True))
        if one.joined:
            parts.append(_path(points, horizontal, vertical, colour))
        if one.dots or not one.joined or len(points) == 1:
            parts += [
                _dot(horizontal.at(a), vertical.at(b), colour, f"{name}: {a:.4g}, {b:.4g}")
                for name, (a, b) in zip(one.names or [one.name] * len(points), points, strict=True)
            ]
    legend = [
        f'<g><rect x="{_LEFT}" y="{_HEIGHT + 4 + _ROW * place}" width="12" height="12" fill="{_colour(place)}"/>'
        f'<text x="{_LEFT + 18}" y="{_HEIGHT + 14 + _ROW * place}">{escape(one.name)}</text></g>'
        for place, one in enumerate(finite)
    ]
    return _svg(title, _HEIGHT + 10 + _ROW * len(finite), [*parts, *legend])


def interval_plot(title: str, spots: Sequence[Spot], limit: Limit | None = None) -> str:
    """Values one below another as dots with their intervals, on a common axis, and what they are held against."""
    known = [one for one in spots if math.isfinite(one.value)]
    if not known:
        return ""
    ends = [end for one in known for end in (one.low, one.value, one.high) if end is not None and math.isfinite(end)]
    longest = max(len(one.name) for one in known)
    left = min(220, 14 + 7 * longest)
    axis = _Axis(*_range(ends, limit), left, _WIDTH - _RIGHT)
    bottom = _TOP + _ROW * len(known)
    parts = [
        f'<g class="axis"><line x1="{axis.at(tick):.1f}" y1="{_TOP}" x2="{axis.at(tick):.1f}" y2="{bottom}"/>'
        f'<text x="{axis.at(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:.4g}</text></g>'
        for tick in axis.ticks()
    ]
    parts += [] if limit is None else [_upright(limit, axis, bottom)]
    for place, one in enumerate(known):
        y, colour = _TOP + _ROW * (place + 0.5), _colour(place)
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(one.name)}</text>')
        if one.low is not None and one.high is not None and math.isfinite(one.low) and math.isfinite(one.high):
            parts.append(f'<line x1="{axis.at(one.low):.1f}" y1="{y:.1f}" x2="{axis.at(one.high):.1f}" y2="{y:.1f}" '
                         f'stroke="{colour}" stroke-width="2"/>')  # fmt: skip
        parts.append(_dot(axis.at(one.value), y, colour, _said(one)))
    return _svg(title, bottom + 26, parts)


def _said(one: Spot) -> str:
    ends = "" if one.low is None or one.high is None else f" [{one.low:.4g}, {one.high:.4g}]"
    return f"{one.name}: {one.value:.4g}{ends}"


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values low to high at places start to end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round numbers."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _range(values: Sequence[float], limit: Limit | None = None) -> tuple[float, float]:
    """A limit widens it, unless the values would then be hard to tell apart."""
    low, high = min(values), max(values)
    if limit is not None:
        near = _FAR * (high - low) or abs(high)
        if low - near <= limit.value <= high + near:
            low, high = min(low, limit.value), max(high, limit.value)
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _axes(horizontal: _Axis, vertical: _Axis, x: str, y: str) -> str:
    base = _HEIGHT - _BOTTOM
    parts = []
    for tick in horizontal.ticks():
        at = horizontal.at(tick)
        parts.append(f'<line x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{base}"/>'
                     f'<text x="{at:.1f}" y="{base + 16}" text-anchor="middle">{tick:.4g}</text>')  # fmt: skip
    for tick in vertical.ticks():
        at = vertical.at(tick)
        parts.append(f'<line x1="{_LEFT}" y1="{at:.1f}" x2="{_WIDTH - _RIGHT}" y2="{at:.1f}"/>'
                     f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:.4g}</text>')  # fmt: skip
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{base + 36}" text-anchor="middle">{escape(x)}</text>')
    middle = (_TOP + base) / 2
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(y)}</text>'
    )
    return f'<g class="axis">{"".join(parts)}</g>'


def _upright(limit: Limit, axis: _Axis, bottom: float) -> str:
    """A limit of a horizontal axis: a line from top to bottom, or an arrow at the end beyond which it lies."""
    at, y = axis.at(min(max(limit.value, axis.low), axis.high)), _TOP - 4
    anchor = "end" if at > (axis.start + axis.end) / 2 else "start"
    if limit.value > axis.high:
        return _named(limit, at, y, anchor, f"{limit.name} \N{RIGHTWARDS ARROW}")
    if limit.value < axis.low:
        return _named(limit, at, y, anchor, f"\N{LEFTWARDS ARROW} {limit.name}")
    return _dashes(at, _TOP, at, bottom) + _named(limit, at, y, anchor, limit.name)


def _level(limit: Limit, axis: _Axis) -> str:
    """A limit of a vertical axis: a line from left to right, or an arrow at the end beyond which it lies."""
    x, at = _WIDTH - _RIGHT, axis.at(min(max(limit.value, axis.low), axis.high))
    if limit.value > axis.high:
        return _named(limit, x, at + 12, "end", f"{limit.name} \N{UPWARDS ARROW}")
    if limit.value < axis.low:
        return _named(limit, x, at - 4, "end", f"{limit.name} \N{DOWNWARDS ARROW}")
    return _dashes(_LEFT, at, x, at) + _named(limit, x, at - 4, "end", limit.name)


def _dashes(x1: float, y1: float, x2: float, y2: float) -> str:
    places = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="limit" {places} stroke="#555" stroke-width="1.4" stroke-dasharray="6 3"/>'


def _named(limit: Limit, x: float, y: float, anchor: str, said: str) -> str:
    hint = f"<title>{escape(limit.name)}: {limit.value:.6g}</title>"
    return f'<text class="limit" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#555">{escape(said)}{hint}</text>'


def _path(
    points: Sequence[tuple[float, float]], horizontal: _Axis, vertical: _Axis, colour: str, *, dashed: bool = False
) -> str:
    places = " ".join(f"{horizontal.at(a):.1f},{vertical.at(b):.1f}" for a, b in points)
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.8"{dashes}/>'


def _dot(x: float, y: float, colour: str, said: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{escape(said)}</title></circle>'


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img">'
        f'<title>{escape(title)}</title><text x="{_LEFT}" y="18" class="title">{escape(title)}</text>'
        f"{''.join(parts)}</svg>"
    )
