"""Which pages may show a widget, and from where its requests may come. Pure.

A browser names no origin where it loads a frame, so the frame's document says itself whose pages may hold it (`frame-ancestors`);
where a script calls, it does, and what it names is compared here.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from adapters.widget import Widget

_PORTS = {"http": 80, "https": 443}


def ancestors(widget: Widget | None, public_url: str) -> str:
    """The sources of `frame-ancestors`. Pages without TLS may hold the frame only where the gateway has none either."""
    schemes = ("https", "http") if public_url.startswith("http://") else ("https",)
    domains = widget.domains if widget is not None else ()
    return " ".join(f"{scheme}://{domain}" for domain in domains for scheme in schemes) or "'none'"


def may_call(widget: Widget, public_url: str, headers: Mapping[str, str], method: str) -> bool:
    """Whether a request comes from the widget's frame, or from a page that may show it. Browsers name no origin where a page reads
    (GET) from its own; then they say at most that it is the same site."""
    origin = headers.get("origin")
    if origin is None:
        return method in ("GET", "HEAD") and headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    ours = _place(public_url)
    found = _place(origin)
    if found is None:
        return False
    if found == ours or urlsplit(origin).netloc == headers.get("host"):
        return True
    scheme, host, port = found
    if scheme == "http" and not public_url.startswith("http://"):
        return False
    return any(_matches(domain, scheme, host, port) for domain in widget.domains)


def _matches(domain: str, scheme: str, host: str, port: int) -> bool:
    wanted, colon, named = domain.partition(":")
    if port != (int(named) if colon else _PORTS[scheme]):
        return False
    return host.endswith(wanted[1:]) if wanted.startswith("*.") else host == wanted


def _place(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            return None
        return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
    except ValueError:
        return None
