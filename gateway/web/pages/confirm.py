"""The page that asks before something is taken away for good. Works without JavaScript: its button is a form of its own.

The POST that does it carries `sure=1`; without it the handler leads here. It does nothing itself.
"""

from collections.abc import Mapping

from quart_trio.wrappers import TrioResponse as Response

from gateway.web.site import Site


def confirm_page(
    site: Site, *, title: str, text: str, action: str, fields: Mapping[str, str], button: str, back: str
) -> Response:
    """Asks `title`, says in `text` what would happen, and offers `button` (which posts `fields` to `action`) or `back`."""
    return site.page("confirm.html", title=title, text=text, action=action, fields=fields, button=button, back=back)
