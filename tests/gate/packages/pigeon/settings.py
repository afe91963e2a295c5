"""The settings of one Pigeon account, and the forms of its login."""

from adapters.apps import AppCredentials, AppSecret
from adapters.base import AdapterSettings, setting
from adapters.credentials import UrlId, hook_id
from gateway.domain.secret import Secret


class PigeonSettings(AdapterSettings):
    """Whose account, and which room calls are shown in."""

    address: str = setting(en="Address", ru="Адрес", pattern="^https?://")
    room: str = setting("lobby", en="Room for calls", ru="Комната для звонков")
    signing_key: Secret = setting(en="Signing key", ru="Ключ подписи", secret=True)
    account: str = setting("", en="Number of the account", ru="Номер аккаунта", account=True)
    poll: bool = setting(False, en="Ask by itself", ru="Спрашивать самому")
    token: Secret | None = setting(None, en="Token", ru="Токен", secret=True, advanced=True, stored=True)
    hook_id: UrlId = hook_id()


class PhoneForm(AdapterSettings):
    """Whose account it is."""

    phone: str = setting(en="Phone number", ru="Номер телефона", pattern=r"^\+[0-9]{7,15}$")


class CodeForm(AdapterSettings):
    """What the messenger has sent to that phone."""

    code: Secret = setting(en="Code", ru="Код", secret=True)


class PigeonApp(AppCredentials):
    """The installation's application: it signs what comes for all accounts."""

    app_secret: AppSecret
    verify_token: AppSecret
