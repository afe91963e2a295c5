"""The Asterisk adapter: a PBX that streams its calls over the manager interface (AMI).

Owns the one `ADAPTER` value; read `session.py` for the connection, `calls.py` for what its events mean.
"""

from adapters.asterisk.advice import advice
from adapters.asterisk.replay import replay
from adapters.asterisk.session import AsteriskClient, connect
from adapters.asterisk.settings import AsteriskSettings
from adapters.base import Adapter
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("asterisk"),
    title="Asterisk",
    type="pbx",
    package=__name__,
    docs_url="https://docs.asterisk.org/Configuration/Interfaces/Asterisk-Manager-Interface-AMI/",
    settings=AsteriskSettings,
    connect=connect,
    client=AsteriskClient,
    advice=advice,
    replay=replay,
)
