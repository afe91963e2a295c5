"""Instagram Direct: people write to a professional account, and the company answers.

Owns the `ADAPTER` value and nothing else. An account is reached in two ways, by Instagram's own login or through a Facebook page; they
differ in host and token alone (`client.py`). What people write comes in through `incoming.py` and is read by `chats.py`; what answers
mean is in `codec.py`. Read `chats.py` next.
"""

from adapters.apps import App, MetaApp
from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.instagram.advice import advice
from adapters.instagram.chats import CHANNEL
from adapters.instagram.client import InstagramClient, connect
from adapters.instagram.incoming import INBOUND
from adapters.instagram.jobs import JOBS
from adapters.instagram.settings import InstagramSettings
from adapters.meta import missing
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("instagram"),
    title="Instagram",
    type="channel",
    package=__name__,
    docs_url="https://developers.facebook.com/docs/instagram-platform/",
    settings=InstagramSettings,
    connect=connect,
    client=InstagramClient,
    advice=advice,
    hook_id_field="hook_id",
    chat=CHANNEL,
    inbound=INBOUND,
    app=App("meta", MetaApp),
    missing=lambda settings, app: missing(settings.webhook_verify_token, settings.app_secret, app),
    jobs=JOBS,
    # Texts may go at 300 a second, sound and video at 10: Meta, "Messenger Platform rate limits".
    limits=Limits(rates={"": Rate(100), "media": Rate(10)}, at_once=8),
    account=lambda settings: account_key("instagram", settings.page_id, settings.access_token),
)
