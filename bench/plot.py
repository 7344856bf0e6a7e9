"""Users over time of every run, as an SVG that is read without colours too. No clock, no files."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

# Okabe and Ito's colours, which the colour-blind can tell apart; the dashes are for print.
_STYLES = {
    "bare": ("bare client", "#444444", "6 3"),
    "trickle": ("single writes", "#0072b2", ""),
    "burst": ("bursts", "#d55e00", ""),
    "mails": ("with invitations", "#007a5a", "2 2"),
}
_WIDTH, _PANEL = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 70, 76, 52
_LABEL_GAP, _LABEL_WIDTH = 16, 110

Curve = Sequence[Sequence[float]]


def plot(panels: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return one panel for each database: its runs thin, the one of the median rate thick and named."""
    height = _PANEL * len(panels)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" font-family="sans-serif" font-size="12" role="img" '
            'aria-label="Users in Keycloak over time for each contender">'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for at, (title, runs) in enumerate(panels.items()):
        good = [run for run in runs if run["problem"] is None]
        if good:
            parts += [f'<g transform="translate(0 {_PANEL * at})">', *_panel(title, good), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def ticks(greatest: float, wanted: int = 6) -> list[float]:
    """Return round numbers from 0 to not less than `greatest`."""
    raw = max(greatest, 1e-9) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= raw)
    return [step * number for number in range(math.ceil(greatest / step) + 1)]


def _panel(title: str, runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    across = ticks(max(point[0] for run in runs for point in run["curve"]))
    up = ticks(max(run["users"] for run in runs))
    scale = _Scale(across[-1], up[-1])
    yield f'<text x="{_LEFT}" y="24" font-size="15" fill="#222222">{escape(title)}</text>'
    yield (
        f'<text x="{_WIDTH - _RIGHT}" y="24" text-anchor="end" fill="#444444">'
        "thick: the run of the median rate; thin: the others</text>"
    )
    yield from _axes(scale, across, up)
    ends = []
    for name, (label, colour, dashes) in _STYLES.items():
        own = sorted((run for run in runs if run["contender"] == name), key=lambda run: run["rate"])
        if not own:
            continue
        middle = own[(len(own) - 1) // 2]
        for run in own:
            yield _line(scale, run["curve"], colour, dashes, middle=run is middle)
        last = middle["curve"][-1]
        ends.append((scale.x(last[0]), scale.y(last[1]), label, colour))
    yield from _labels(ends)


class _Scale:
    """From seconds and users to places on the panel."""

    def __init__(self, time_s: float, users: float) -> None:
        self._time_s = time_s
        self._users = users

    def x(self, at_s: float) -> float:
        """Return the place of a moment."""
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / self._time_s, 1)

    def y(self, users: float) -> float:
        """Return the place of a number of users."""
        return round(_PANEL - _BOTTOM - (_PANEL - _TOP - _BOTTOM) * users / self._users, 1)


def _axes(scale: _Scale, across: Sequence[float], up: Sequence[float]) -> Iterator[str]:
    right, bottom = scale.x(across[-1]), scale.y(0)
    for value in up:
        y = scale.y(value)
        yield f'<line x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#dddddd"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#444444">{value:,.0f}</text>'
    for value in across:
        x = scale.x(value)
        yield f'<line x1="{x}" y1="{bottom}" x2="{x}" y2="{bottom + 5}" stroke="#444444"/>'
        yield f'<text x="{x}" y="{bottom + 19}" text-anchor="middle" fill="#444444">{value:g}</text>'
    yield f'<line x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="#444444"/>'
    middle = (_LEFT + right) / 2
    yield (
        f'<text x="{middle}" y="{bottom + 39}" text-anchor="middle" fill="#222222">'
        "seconds since the contender was started</text>"
    )
    yield f'<text x="{_LEFT - 8}" y="{_TOP - 10}" text-anchor="end" fill="#222222">users</text>'


def _line(scale: _Scale, curve: Curve, colour: str, dashes: str, *, middle: bool) -> str:
    points = " ".join(f"{scale.x(at_s)},{scale.y(users)}" for at_s, users in curve)
    width, opacity = (2.5, 1) if middle else (1, 0.5)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-opacity="{opacity}"{dashed}/>'
    )


def _labels(ends: Sequence[tuple[float, float, str, str]]) -> Iterator[str]:
    """Name each line above its end; a name that would touch another one moves further up."""
    placed: list[tuple[float, float]] = []
    for x, end, label, colour in sorted(ends):
        y = end - _LABEL_GAP / 2
        while any(
            abs(y - other) < _LABEL_GAP and abs(x - at) < _LABEL_WIDTH for at, other in placed
        ):
            y -= _LABEL_GAP
        placed.append((x, y))
        yield (
            f'<text x="{x}" y="{y}" text-anchor="middle" fill="{colour}" font-weight="bold" '
            f'paint-order="stroke" stroke="#ffffff" stroke-width="4">{escape(label)}</text>'
        )
