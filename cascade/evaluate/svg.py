"""Small charts as inline SVG: no script, no font, no network. Text is escaped; every chart has a title for readers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape

COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#6b7280")
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 44
_TICKS = 5


@dataclass
class Chart:
    """A chart with linear axes; ``x`` and ``y`` are the ranges that it shows, in the units of the data.

    With ``categories`` the x axis has their names in place of numbers, the first between 0 and 1, and so on.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    width: int = 440
    height: int = 300
    categories: tuple[str, ...] = ()
    _marks: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str]] = field(default_factory=list)

    def line(self, points: Iterable[tuple[float, float]], label: str, colour: str, *, dashed: bool = False) -> None:
        """A line through points."""
        path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._marks.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2"{dash} points="{path}"/>')
        if label:
            self._legend.append((label, colour))

    def dot(self, x: float, y: float, label: str, colour: str, radius: float = 4) -> None:
        """A point; the label shows when it is pointed at."""
        circle = f'<circle cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="{radius}" fill="{colour}">'
        self._marks.append(f"{circle}<title>{escape(label)}</title></circle>")

    def bar(self, left: float, right: float, height: float, label: str, colour: str, base: float = 0.0) -> None:
        """A bar from ``base`` to ``height``; the label shows when it is pointed at."""
        x, top = self._x(left), self._y(height)
        width, tall = max(0.5, self._x(right) - x - 0.5), max(0.0, self._y(base) - top)
        rect = f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{tall:.1f}" fill="{colour}"'
        self._marks.append(f'{rect} fill-opacity="0.55"><title>{escape(label)}</title></rect>')

    def threshold(self, x: float, label: str, colour: str = "#b91c1c") -> None:
        """A vertical line with its name beside it."""
        at, late = self._x(x), _share(x, self.x) > 0.7  # where there is no room to the right
        self._marks.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{self.height - _BOTTOM}" stroke="{colour}" '
            f'stroke-dasharray="3 3"/><text x="{at + (-3 if late else 3):.1f}" '
            f'text-anchor="{"end" if late else "start"}" y="{_TOP + 9 + 11 * (len(self._marks) % 3)}" '
            f'fill="{colour}" font-size="10">{escape(label)}</text>'
        )

    def legend(self, label: str, colour: str) -> None:
        """An entry of the legend, for what was drawn without one."""
        self._legend.append((label, colour))

    def svg(self) -> str:
        """The chart."""
        head = (
            f'<svg role="img" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
            f'font-family="system-ui, sans-serif" font-size="11"><title>{escape(self.title)}</title>'
        )
        return head + "".join([*self._axes(), *self._marks, *self._keys()]) + "</svg>"

    def _x(self, value: float) -> float:
        return _LEFT + _share(value, self.x) * (self.width - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return self.height - _BOTTOM - _share(value, self.y) * (self.height - _TOP - _BOTTOM)

    def _axes(self) -> list[str]:
        found = []
        bottom, right = self.height - _BOTTOM, self.width - _RIGHT
        for step in range(_TICKS + 1):
            x = self.x[0] + (self.x[1] - self.x[0]) * step / _TICKS
            y = self.y[0] + (self.y[1] - self.y[0]) * step / _TICKS
            if not self.categories:
                found.append(f'<text x="{self._x(x):.1f}" y="{bottom + 14}" text-anchor="middle">{x:.3g}</text>')
            found.append(f'<text x="{_LEFT - 5}" y="{self._y(y) + 4:.1f}" text-anchor="end">{y:.3g}</text>')
            found.append(
                f'<line x1="{_LEFT}" x2="{right}" y1="{self._y(y):.1f}" y2="{self._y(y):.1f}" stroke="#8884"/>'
            )
        for at, name in enumerate(self.categories):
            found.append(
                f'<text x="{self._x(at + 0.5):.1f}" y="{bottom + 14}" text-anchor="middle">{escape(name)}</text>'
            )
        middle = (_LEFT + right) / 2
        found.append(f'<text x="{middle}" y="{bottom + 28}" text-anchor="middle">{escape(self.x_label)}</text>')
        found.append(
            f'<text transform="translate(13 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text>"
        )
        return found

    def _keys(self) -> list[str]:
        """The legend, in one row below the axis."""
        found, x = [], float(_LEFT)
        for label, colour in self._legend:
            y = self.height - 4
            found.append(f'<rect x="{x:.1f}" y="{y - 8}" width="9" height="9" fill="{colour}"/>')
            found.append(f'<text x="{x + 12:.1f}" y="{y}">{escape(label)}</text>')
            x += 24 + 6.1 * len(label)
        return found


def _share(value: float, of: tuple[float, float]) -> float:
    """Where a value lies in a range, 0 to 1; what lies outside goes to its edge."""
    return min(1.0, max(0.0, (value - of[0]) / (of[1] - of[0])))
