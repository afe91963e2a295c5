"""A bar on a terminal, few lines elsewhere."""

import io

from gateway.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(out: io.StringIO) -> str:
    progress = Progress(out)
    for done in range(0, 1001, 5):
        progress.show("rows", done, 1000)
    progress.show("others", 3, 2)
    progress.show("last", 1, 4)
    progress.line("done")
    return out.getvalue()


def test_lines() -> None:
    lines = shown(io.StringIO()).splitlines()
    assert len(lines) == 11 + 3
    assert (lines[0].split(), lines[10].split()) == (["rows", "0/1000"], ["rows", "1000/1000"])
    assert (lines[11].split(), lines[12].split(), lines[13]) == (["others", "3/3"], ["last", "1/4"], "done")


def test_a_bar() -> None:
    text = shown(Terminal())
    assert text.count("\n") == 4
    rows, others, last, done = text.split("\n")[:4]
    assert rows.split("\r\x1b[K")[101].startswith(f"[{'#' * 15}{'.' * 15}] rows ")
    assert rows.endswith("1000/1000")
    assert others.endswith("3/3")
    assert last.endswith("1/4")
    assert done == "done"
