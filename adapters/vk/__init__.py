"""VK communities: people write to the community, and the company answers.

Owns the `ADAPTER` value and nothing else. Updates come by the Callback API (`incoming.py`) or Bots Long Poll (`long_poll.py`) and are
read by `chats.py`; what answers mean is in `codec.py`. Read `chats.py` next.
"""

from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.vk.chats import CHANNEL
from adapters.vk.client import VkClient, connect
from adapters.vk.incoming import INBOUND, polls
from adapters.vk.jobs import JOBS
from adapters.vk.settings import VkSettings
from gateway.domain.ids import Kind

ADAPTER = Adapter(
    kind=Kind("vk"),
    title="VK",
    type="channel",
    package=__name__,
    docs_url="https://dev.vk.com/ru/api/community-messages/getting-started",
    settings=VkSettings,
    connect=connect,
    client=VkClient,
    hook_id_field="hook_id",
    chat=CHANNEL,
    inbound=INBOUND,
    streams=polls,
    jobs=JOBS,
    limits=Limits(rates={"": Rate(20)}, at_once=8),
    account=lambda settings: account_key("vk", settings.access_token),
)
