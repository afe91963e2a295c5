"""The settings of one professional account of Instagram. Owns the fields, their labels and what makes a value valid.

Never calls Meta. Read `client.py` for what differs between the two logins.
"""

from typing import Literal

from adapters.base import setting
from adapters.credentials import UrlId, hook_id
from adapters.http_settings import HttpSettings
from adapters.meta import AccountId, MetaSecret, MetaToken
from gateway.domain.secret import Secret


class InstagramSettings(HttpSettings):
    """Which account answers, and how Meta's webhooks are told from others."""

    page_id: AccountId = setting(
        en="Instagram account ID",
        ru="Идентификатор аккаунта Instagram",
        help_en="Of the professional account, 17 digits that mostly begin with 17841: Meta for Developers, the app, Instagram, API "
        "setup shows it. It is not the id of the Facebook page",
        help_ru="Идентификатор профессионального аккаунта, 17 цифр, обычно начинается с 17841: Meta for Developers, приложение, "
        "Instagram, API setup. Это не идентификатор страницы Facebook",
        account=True,
        placeholder="17841400008460056",
    )
    login: Literal["instagram", "facebook"] = setting(
        "instagram",
        en="How the account is reached",
        ru="Способ доступа к аккаунту",
        options={
            "instagram": {"en": "Instagram login, without a Facebook page", "ru": "вход через Instagram, без страницы Facebook"},
            "facebook": {"en": "Facebook login, through the linked page", "ru": "вход через Facebook, по связанной странице"},
        },
    )  # fmt: skip
    access_token: MetaToken = setting(
        en="Access token",
        ru="Токен доступа",
        help_en="Instagram login: the app, Instagram, API setup, Generate token; it is renewed by itself. Facebook login: the token of "
        "the linked page, with instagram_manage_messages",
        help_ru="Вход через Instagram: приложение, Instagram, API setup, Generate token; продлевается сам. Вход через Facebook: токен "
        "связанной страницы, с правом instagram_manage_messages",
        secret=True,
        placeholder="IGAA…",
    )
    app_secret: MetaSecret = setting(
        default_factory=lambda: Secret(""),
        en="App secret",
        ru="Секрет приложения",
        help_en="Webhooks are verified by it; without it none is taken. Instagram login: the app, Instagram, API setup, Instagram app "
        "secret. Facebook login: App settings, Basic. Not needed where the installation has an application of its own",
        help_ru="По нему проверяются вебхуки; без него они не принимаются. Вход через Instagram: приложение, Instagram, API setup, "
        "Instagram app secret. Вход через Facebook: App settings, Basic. Не нужен, если у установки есть своё приложение",
        secret=True,
    )
    webhook_verify_token: MetaSecret = setting(
        default_factory=lambda: Secret(""),
        en="Verify token",
        ru="Токен проверки (Verify token)",
        help_en="A long random text of your own. Enter the same in the app: Instagram, API setup, Configure webhooks",
        help_ru="Длинный случайный текст, придумайте сами. Введите его же в приложении: Instagram, API setup, Configure webhooks",
        secret=True,
    )
    hook_id: UrlId = hook_id()
