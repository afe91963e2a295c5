"""How far a long command is: a bar on a terminal, else a line at each tenth, so that logs stay short."""

import sys
from typing import TextIO

WIDTH = 30


class Progress:
    """Called with `show(what, done, total)` as often as the caller likes."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._bar = self._out.isatty()
        self._open = False
        self._reported = ("", -1)

    def show(self, what: str, done: int, total: int) -> None:
        """What is written meanwhile may make more of it than there was at the start."""
        total = max(done, total)
        share = done / total if total else 1.0
        text = f"{what:<26} {done}/{total}"
        if self._bar:
            full = round(WIDTH * share)
            self._out.write(f"\r\x1b[K[{'#' * full}{'.' * (WIDTH - full)}] {text}")
            self._open = done < total
            if not self._open:
                self._out.write("\n")
        elif self._reported != (what, step := int(share * 10)):
            self._reported = what, step
            self._out.write(f"{text}\n")
        self._out.flush()

    def line(self, text: str) -> None:
        """A sentence on a line of its own."""
        if self._open:
            self._out.write("\n")
            self._open = False
        self._out.write(f"{text}\n")
        self._out.flush()
