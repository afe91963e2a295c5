"""Applications of the installation: what an outside provider gives to one that serves many companies.

A Meta app has one webhook for all its numbers; a marketplace app of a CRM has one client id. Such credentials stand in the file
that `GATEWAY_APPS_FILE` names (`gateway/apps_file.py`); an adapter names its application in `Adapter.app` and gets it in
`Link.app` and with a webhook of `Inbound.shared`. An integration's own credentials go before the installation's.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.domain.errors import BadSettings
from gateway.domain.secret import Secret


def _text(value: object) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise ValueError("must be a text that is not empty")
    return str(value).strip()


AppText = Annotated[str, BeforeValidator(_text)]
"""An identifier; digits may stand without quotes."""
AppSecret = Annotated[Secret, BeforeValidator(lambda value: Secret(_text(value)))]


class AppCredentials(BaseModel):
    """Base of what an application has. Never shown, also not in errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


class OAuthApp(AppCredentials):
    """An application to which people give access by OAuth."""

    client_id: AppText
    client_secret: AppSecret


class AccountApp(AppCredentials):
    """An application through which people use accounts of their own."""

    api_id: Annotated[int, Field(gt=0)]
    api_hash: AppSecret


class MetaApp(AppCredentials):
    """An application of Meta: it signs webhooks with its secret, and shows its verify token in the handshake. Accounts that log in
    without a Facebook page belong to a part of it that has a secret of its own."""

    app_id: AppText
    app_secret: AppSecret
    verify_token: AppSecret
    direct_app_secret: AppSecret | None = None


@dataclass(frozen=True, slots=True)
class App:
    """The application of an adapter: the name under which it stands in the file (several adapters may share one), and its fields."""

    name: str
    credentials: type[AppCredentials]


def oauth_app(app: AppCredentials | None, client_id: str, client_secret: Secret | None) -> OAuthApp:
    """The integration's own client id and secret, else the installation's. Raises BadSettings where there are none."""
    if client_id and client_secret:
        return OAuthApp(client_id=client_id, client_secret=client_secret.reveal())
    if isinstance(app, OAuthApp):
        return app
    raise BadSettings(
        "no client id and secret, and no application of the installation",
        person="Enter the client id and secret of your application: this installation has none of its own.",
    )
