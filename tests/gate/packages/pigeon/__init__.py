"""Pigeon, a messenger that exists only in tests: what people write comes by webhook or poll, calls are shown in a room, and a
person logs in with a phone number and a code. Read `codec.py` next."""

from adapters.apps import App
from adapters.base import Adapter, Limits, Rate
from adapters.inbound import Inbound, SharedHook
from adapters.login import Login
from gateway.domain.ids import Kind
from pigeon import codec
from pigeon.client import PigeonClient, connect, open_login
from pigeon.settings import CodeForm, PhoneForm, PigeonApp, PigeonSettings

ADAPTER = Adapter(
    kind=Kind("pigeon"),
    title="Pigeon",
    package=__name__,
    type="channel",
    settings=PigeonSettings,
    connect=connect,
    client=PigeonClient,
    plan_call=codec.plan,
    limits=Limits(rates={"": Rate(20, 20)}),
    hook_id_field="hook_id",
    inbound=Inbound(
        verify=codec.verify,
        read=codec.read,
        accepts=lambda settings: not settings.poll,
        accepted=codec.ACCEPTED,
        shared=SharedHook(verify=codec.verify_shared, accounts=codec.accounts),
    ),
    app=App("pigeon", PigeonApp),
    streams=lambda settings: settings.poll,
    login=Login(open=open_login, forms={"phone": PhoneForm, "code": CodeForm}),
)
