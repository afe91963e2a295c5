"""The head of a request: where an adapter's address and path lead, and headers that are built once. Pure. Read `client.py` next."""

import re
from collections.abc import Mapping

import httpx2

from adapters.http.bodies import Body
from gateway.domain.errors import BadSettings, LocalProtocolError
from gateway.domain.reasons import reason

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_PLAIN_TARGET = re.compile(r"/[A-Za-z0-9/_~!$&'()*+,;=:@%?.-]*")
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FIELD_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")


def base_of(text: str) -> httpx2.URL:
    """The address that requests begin with. Raises BadSettings, also for what no URL library agrees to read: names that begin
    with `xn--` and are none end in errors of the IDNA codec's own."""
    try:
        url = httpx2.URL(text)
        if url.scheme in ("http", "https") and url.host.strip(".") and url.host[0] != "." and not url.userinfo:
            # A trailing dot is the same name to DNS, and a different one to a certificate.
            return url.copy_with(host=url.host.rstrip("."))
    except (httpx2.InvalidURL, ValueError):
        raise BadSettings(reason("not_usable")) from None
    raise BadSettings(reason("not_a_site"))


class Site:
    """One remote by its address. Raises BadSettings for what is none."""

    def __init__(self, url: str) -> None:
        base = base_of(url)
        self.tls = base.scheme == "https"
        self.host = base.raw_host.decode("ascii")
        self.port = base.port or (443 if self.tls else 80)
        self._origin = str(base.copy_with(path="/", query=None, fragment=None)).rstrip("/")
        self._prefix = base.raw_path.decode("ascii").rstrip("/")
        self._fields = (
            f"host: {base.netloc.decode('ascii')}\r\naccept: */*\r\nconnection: keep-alive\r\n"
            "user-agent: telephony-gateway\r\n"
        )

    def head(self, method: str, path: str, headers: Mapping[str, str], body: Body) -> bytes:
        """The request line and headers. Raises LocalProtocolError without the value, which may be a secret, and BadSettings
        for a path that no URL can have."""
        target = self._prefix + path
        if not _PLAIN_TARGET.fullmatch(target) or "/." in target:
            target = self._escaped(target)
        lines = [f"{method} {target} HTTP/1.1\r\n{self._fields}"]
        if "accept-encoding" not in headers:
            lines.append("accept-encoding: identity\r\n")
        right = method in _METHODS
        for name, value in headers.items():
            right = right and bool(_FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value))
            lines.append(f"{name}: {value}\r\n")
        if body.content_type and "content-type" not in headers:
            lines.append(f"content-type: {body.content_type}\r\n")
        if body.length or method != "GET":
            lines.append(f"content-length: {body.length}\r\n")
        if not right:
            raise LocalProtocolError("the request cannot be written as HTTP")
        lines.append("\r\n")
        return "".join(lines).encode("ascii")

    def _escaped(self, target: str) -> str:
        """As a URL library writes it: spaces and other letters escaped, dots resolved."""
        try:
            return httpx2.URL(self._origin + target).raw_path.decode("ascii")
        except (httpx2.InvalidURL, ValueError):
            pass
        raise BadSettings(reason("not_usable"))
