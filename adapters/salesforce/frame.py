"""Whose pages may hold the softphone: the organisation's own, by its address at Salesforce. Pure.

Salesforce's script (Open CTI) runs in our frame, so the frame exists only where the organisation's address is one of Salesforce's, or
where the operator has put another in its place: an address that a company made up could serve a script of its own. The script's
address is exact; the version is the API's.
"""

from urllib.parse import urlsplit

from adapters.frame import SoftphoneFrame
from adapters.salesforce.settings import SalesforceSettings

_OURS, _PAGES = ".my.salesforce.com", ".lightning.force.com"


def softphone(settings: SalesforceSettings, base_url: str | None) -> SoftphoneFrame | None:
    """None where the address is none of Salesforce's. `base_url` is the operator's replacement."""
    if base_url is not None:
        parts = urlsplit(base_url)
        origins = [f"{parts.scheme}://{parts.netloc}"]
    else:
        parts = urlsplit(settings.instance_url)
        host = (parts.hostname or "").lower()
        if parts.scheme != "https" or parts.port not in (None, 443) or not host.endswith(_OURS):
            return None
        origins = [f"https://{host.removesuffix(_OURS)}{_PAGES}", f"https://{host}"]
    path = f"/support/api/{settings.api_version.removeprefix('v')}/lightning/opencti_min.js"
    return SoftphoneFrame(tuple(origins), tuple(origin + path for origin in origins), settings.send_events.in_)
