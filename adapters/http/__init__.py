"""Safe outgoing HTTP for adapters: addresses that tenants supply, one lean client per remote, no secret in what is shown.

    addresses.py    where one may go                 connecting.py   connections to there, TLS
    wire.py         HTTP/1.1 on a connection         bodies.py       forms, JSON, files
    client.py       one client per remote            requests.py     the head of a request
    masking.py      secrets out of what is shown

Read `client.py` first.
"""

from adapters.http.addresses import AddressPolicy, SafeDialer
from adapters.http.bodies import ABSENT, Upload
from adapters.http.client import BODY_LIMIT, Answer, Http, Timeouts
from adapters.http.connecting import tls_context
from adapters.http.masking import SHOWN_LIMIT, Misread

__all__ = [
    "ABSENT", "BODY_LIMIT", "SHOWN_LIMIT", "AddressPolicy", "Answer", "Http", "Misread", "SafeDialer", "Timeouts", "Upload",
    "tls_context",
]  # fmt: skip
