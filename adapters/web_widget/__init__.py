"""The web widget: a chat in a company's own site, which the gateway serves itself.

Owns the `ADAPTER` value and nothing else. What visitors send is read in `codec.py`; read `gateway/web/widget/` for the addresses.
"""

from adapters.base import Adapter, Limits, Rate
from adapters.web_widget.client import WidgetClient, connect
from adapters.web_widget.codec import CHANNEL, advice, widget
from adapters.web_widget.settings import WidgetSettings
from gateway.domain.ids import Kind
from gateway.domain.text import Bilingual

ADAPTER = Adapter(
    kind=Kind("web_widget"),
    title=Bilingual("Web widget", "Чат на сайте"),
    type="channel",
    package=__name__,
    docs_url="https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Content-Security-Policy/frame-ancestors",
    settings=WidgetSettings,
    connect=connect,
    client=WidgetClient,
    advice=advice,
    chat=CHANNEL,
    widget=widget,
    limits=Limits(rates={"": Rate(1000)}, at_once=50),
)
