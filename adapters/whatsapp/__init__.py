"""WhatsApp numbers of Meta's Cloud API: chats with people who write, and approved templates for outside the 24 hours.

Owns the `ADAPTER` value and nothing else. What people write comes in through `incoming.py` and is read by `chats.py`; what all of
Meta's messengers have in common is in `adapters/meta.py`. Read `codec.py` next.
"""

from adapters import meta
from adapters.apps import App, MetaApp
from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.whatsapp.chats import CHANNEL
from adapters.whatsapp.client import WhatsappClient, connect
from adapters.whatsapp.incoming import INBOUND
from adapters.whatsapp.jobs import JOBS
from adapters.whatsapp.settings import WhatsappSettings
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("whatsapp"),
    title="WhatsApp",
    type="channel",
    package=__name__,
    docs_url="https://developers.facebook.com/docs/whatsapp/cloud-api/get-started",
    settings=WhatsappSettings,
    connect=connect,
    client=WhatsappClient,
    hook_id_field="hook_id",
    chat=CHANNEL,
    inbound=INBOUND,
    app=App("meta", MetaApp),
    missing=lambda settings, app: meta.missing(settings.webhook_verify_token, settings.app_secret, app),
    jobs=JOBS,
    limits=Limits(rates={"": Rate(80), "pair": Rate(10, 60.0)}, at_once=8),
    account=lambda settings: account_key("whatsapp", settings.phone_number_id, settings.access_token),
)
