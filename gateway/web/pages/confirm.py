"""The page that asks for confirmation before something is removed for good. Works without JavaScript.

Its button is a form of its own, whose POST carries `sure=1`; without that the handler redirects here.
"""

from collections.abc import Mapping

from quart_trio.wrappers import TrioResponse as Response

from gateway.web.site import Site


def confirm_page(
    site: Site, *, title: str, text: str, action: str, fields: Mapping[str, str], button: str, back: str
) -> Response:
    """The page with the question `title`, the consequences in `text`, `button` (posts `fields` to `action`) and `back`."""
    return site.page("confirm.html", title=title, text=text, action=action, fields=fields, button=button, back=back)
