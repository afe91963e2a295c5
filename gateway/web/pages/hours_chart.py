"""The calls of a day by hour, as SVG: a column for each hour, answered below, missed and not reached above it.

Pure. Colours are classes of the stylesheet, so that both themes and the content security policy hold. The library writes texts
as they are, so every text is escaped here. The same figures stand beside it as a table for who cannot see it.
"""

from collections.abc import Sequence
from functools import lru_cache

import svg
from markupsafe import Markup, escape

from gateway.store.call_pages import HourFigures

WIDTH, HEIGHT = 960, 210
LEFT, TOP, BOTTOM = 36, 12, 26
FIRST, LAST = 8, 19
"""Hours that are drawn whatever happened in them."""
PARTS = ("answered", "missed", "unreached")
_GAP = 0.28
"""Of a column's width."""


def scale(most: int) -> list[int]:
    """The figures of the lines: from 0 in at most five equal steps of 1, 2 or 5 times a power of ten."""
    step = 1
    while step * 4 < most:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(0, max(most, 1) + step, step))


@lru_cache(maxsize=256)
def hours_chart(hours: tuple[HourFigures, ...], now: int, label: str, words: tuple[str, str, str]) -> Markup:
    """The chart; `now` is the hour of this moment, `words` name the parts, `label` states all of it in a sentence."""
    known = {one.hour: one for one in hours}
    shown = range(min(FIRST, now, *known), max(LAST, now, *known) + 1)
    lines = scale(max((_height(one) for one in hours), default=0))
    plot, width = HEIGHT - TOP - BOTTOM, (WIDTH - LEFT) / len(shown)
    drawn: list[svg.Element] = []
    for value in lines:
        y = round(TOP + plot * (1 - value / lines[-1]), 1)
        drawn.append(svg.Line(class_=["grid"], x1=LEFT, x2=WIDTH, y1=y, y2=y))
        drawn.append(svg.Text(class_=["tick"], x=LEFT - 8, y=y + 4, text_anchor="end", text=str(value)))
    for place, hour in enumerate(shown):
        x = LEFT + place * width
        drawn.append(
            svg.Text(
                class_=["tick", "now"] if hour == now else ["tick"], x=round(x + width / 2, 1), y=HEIGHT - 6,
                text_anchor="middle", text=f"{hour:02d}",
            )
        )  # fmt: skip
        if (found := known.get(hour)) is not None:
            drawn.append(_column(found, x, width, plot / lines[-1], words))
    chart = svg.SVG(
        class_=["hours"], viewBox=svg.ViewBoxSpec(0, 0, WIDTH, HEIGHT), elements=drawn,
        extra={"role": "img", "aria-label": str(escape(label))},
    )  # fmt: skip
    return Markup(chart.as_str())  # noqa: S704 - all texts are escaped


def _height(one: HourFigures) -> int:
    return one.answered + one.missed + one.unreached


def _column(one: HourFigures, x: float, width: float, unit: float, words: Sequence[str]) -> svg.G:
    """The parts upon each other, with their figures for whoever points at them."""
    told = ", ".join(f"{word.lower()} {getattr(one, part)}" for part, word in zip(PARTS, words, strict=True))
    boxes: list[svg.Element] = [svg.Title(text=str(escape(f"{one.hour:02d}:00–{one.hour:02d}:59: {told}")))]
    top = float(HEIGHT - BOTTOM)
    for part in PARTS:
        height = getattr(one, part) * unit
        if height:
            top -= height
            boxes.append(
                svg.Rect(
                    class_=[part], x=round(x + width * _GAP / 2, 1), y=round(top, 1), width=round(width * (1 - _GAP), 1),
                    height=round(height, 1),
                )
            )  # fmt: skip
    return svg.G(elements=boxes)
