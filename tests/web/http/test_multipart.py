"""Forms with files come out byte for byte, wherever the pieces were cut."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.http.multipart import Begin, Data, Malformed, Multipart

BOUNDARY = "xYzZy"
NASTY = ["\r", "\n", "-", "--", "\r\n", "\r\n--", f"--{BOUNDARY}", f"\r\n--{BOUNDARY[:-1]}", "\r\n\r\n", "a", "\0"]


def form(*parts: tuple[str, bytes], preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    body = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\nContent-Type: x/y\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in parts
    )
    return preamble + body + f"--{BOUNDARY}--".encode() + epilogue


def read(body: bytes, cuts: list[int]) -> list[tuple[str, bytes]]:
    parser, found = Multipart(BOUNDARY.encode()), list[tuple[str, bytes]]()
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        for event in parser.feed(body[start:end]):
            match event:
                case Begin():
                    found.append((event.name, b""))
                case Data():
                    found[-1] = (found[-1][0], found[-1][1] + event.data)
    if not parser.complete:
        raise Malformed("cut short")
    return found


@given(
    parts=st.lists(st.lists(st.sampled_from(NASTY), max_size=12).map("".join), max_size=4),
    seed=st.integers(0, 2**32),
)
def test_what_goes_in_comes_out(parts: list[str], seed: int) -> None:
    given_parts = [(f"p{n}", text.encode()) for n, text in enumerate(parts)]
    # A part that holds the delimiter itself could not have been sent with this boundary.
    given_parts = [(n, d) for n, d in given_parts if f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + d]
    body = form(*given_parts)
    rng = random.Random(seed)
    for cuts in (
        [],
        list(range(1, len(body))),
        sorted(rng.sample(range(1, len(body)), min(5, len(body) - 1))),
    ):
        assert read(body, cuts) == given_parts


def test_around_the_form() -> None:
    parts = [("a", b"1"), ("file", b"")]
    assert read(form(*parts, preamble=b"hello\r\n", epilogue=b"\r\nwhatever"), []) == parts
    body = form(*parts, epilogue=b"\r\n--xYzZy nonsense")
    assert read(body, list(range(1, len(body)))) == parts
    spaced = form(*parts).replace(f"--{BOUNDARY}\r\n".encode(), f"--{BOUNDARY} \t\r\n".encode())
    assert read(spaced, list(range(1, len(spaced)))) == parts


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x" * 10_000, form(("a", b"1"))[:-2], b"--xYzZyy\r\n", b"--xYzZy\r\n\r\nno head\r\n--xYzZy--",
        b"--xYzZy\r\nContent-Disposition: form-data\r\n\r\nx\r\n--xYzZy--",
        b"--xYzZy\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--xYzZy--",
        b"--xYzZy\r\nX: " + b"y" * 10_000, form(*[("a", b"1")] * 33), b"--xYzZy" + b" " * 200,
    ],
)  # fmt: skip
def test_what_is_no_form(body: bytes) -> None:
    for cuts in ([], list(range(1, len(body)))):
        with pytest.raises(Malformed):
            read(body, cuts)


def test_memory_is_bounded() -> None:
    parser = Multipart(BOUNDARY.encode())
    list(parser.feed(form(("file", b"")).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"))
    for _ in range(100):
        list(parser.feed(b"\r\n--xYzZ" * 1000))
        assert len(parser._buffer) < 100
