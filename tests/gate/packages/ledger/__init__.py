"""Ledger, a CRM that exists only in tests: OAuth with tokens that change, calls with their clients found or made once, and a job
that reads its stages. Read `client.py` next."""

from adapters.apps import App, OAuthApp
from adapters.base import Adapter, Limits, Rate
from adapters.budget import account_key
from adapters.login import Login
from gateway.domain.ids import Kind
from ledger.client import JOBS, LedgerClient, connect, open_login, plan
from ledger.settings import LedgerSettings

ADAPTER = Adapter(
    kind=Kind("ledger"),
    title="Ledger",
    package=__name__,
    type="crm",
    settings=LedgerSettings,
    connect=connect,
    client=LedgerClient,
    plan_call=plan,
    limits=Limits(rates={"": Rate(10, 10)}),
    account=lambda settings: account_key(settings.address),
    login=Login(open=open_login),
    jobs=JOBS,
    app=App("ledger", OAuthApp),
)
