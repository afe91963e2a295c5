"""A company's own site with the chat in it: one page of things to buy, with a content policy that allows no more than it must."""

import html
from dataclasses import dataclass, field

from tests.sandbox.web import Request, Response, Site

_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}li{margin:.5rem 0}"
_STYLE_HASH = "sha256-1FD5l8xJWJyCIZ9jijosZfCd8Nwx7I5XtuIuOgcrLgY="
"""Of `_STYLE`, so that the policy needs no `unsafe-inline`."""
WORDS = {
    "en": ("Things to buy", "The chat is in the corner below.", ("Pizza Margherita, 12.50", "Pasta al forno, 14.00", "Tiramisu, 9.00")),
    "ru": ("Что можно купить", "Чат — в углу внизу.", ("Пицца «Маргарита», 12,50", "Паста аль форно, 14,00", "Тирамису, 9,00")),
}  # fmt: skip


@dataclass
class Shop:
    """One company's site."""

    name: str
    language: str
    gateway: str
    """Where the widget's script is."""
    key: str
    """The widget's public key."""
    site: Site = field(init=False)

    def __post_init__(self) -> None:
        self.site = Site({("GET", "/"): self._page}, _nothing)

    @property
    def domain(self) -> str:
        """For the widget's `allowed_domains`."""
        return self.site.base.removeprefix("http://")

    async def _page(self, request: Request) -> Response:
        title, hint, things = WORDS[self.language]
        name, listed = html.escape(self.name), "".join(f"<li>{html.escape(thing)}</li>" for thing in things)
        text = (
            f'<!doctype html><html lang="{self.language}"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{name}</title><style>{_STYLE}</style></head>'
            f"<body><main><h1>{name}</h1><h2>{html.escape(title)}</h2><ul>{listed}</ul><p>{html.escape(hint)}</p></main>"
            f'<script async src="{self.gateway}/widget.js" data-key="{self.key}" data-locale="{self.language}"></script></body></html>'
        )
        policy = f"default-src 'none'; style-src '{_STYLE_HASH}'; script-src {self.gateway}; frame-src {self.gateway}"
        return Response(200, text.encode(), "text/html; charset=utf-8", (("Content-Security-Policy", policy),))


async def _nothing(request: Request) -> Response:
    return Response(404, b"", "text/plain")
