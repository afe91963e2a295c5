"""The settings of one Ledger account."""

from typing import Literal

from adapters.base import AdapterSettings, setting
from gateway.domain.secret import Secret


class LedgerSettings(AdapterSettings):
    """Which account, and what calls become."""

    address: str = setting(en="Address", ru="Адрес", pattern="^https?://")
    client_id: str = setting("", en="Client id", ru="Идентификатор приложения")
    client_secret: Secret | None = setting(None, en="Client secret", ru="Секрет приложения", secret=True)
    makes: Literal["lead", "deal"] = setting("lead", en="A new client becomes", ru="Новый клиент становится")
