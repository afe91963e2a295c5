"""The settings of one WhatsApp number of the Cloud API. Owns the fields, their labels and what makes a value valid.

Never calls Meta. Read `codec.py` next.
"""

from adapters.base import setting
from adapters.credentials import UrlId, hook_id
from adapters.http_settings import HttpSettings
from adapters.meta import AccountId, MetaSecret, MetaToken
from gateway.domain.secret import Secret


class WhatsappSettings(HttpSettings):
    """Which number writes, and how Meta's webhooks are told from others."""

    phone_number_id: AccountId = setting(
        en="Phone number ID",
        ru="Идентификатор номера (Phone number ID)",
        help_en="Meta for Developers, the app, WhatsApp, API Setup shows it. It is not the number itself",
        help_ru="Meta for Developers, приложение, WhatsApp, API Setup. Это не сам номер телефона",
        account=True,
        placeholder="106540352242922",
    )
    access_token: MetaToken = setting(
        en="Access token",
        ru="Токен доступа",
        help_en="Of a system user, without an end: Meta Business Settings, System users, Generate token, with "
        "whatsapp_business_messaging and whatsapp_business_management",
        help_ru="Токен системного пользователя без срока: Meta Business Settings, System users, Generate token, с правами "
        "whatsapp_business_messaging и whatsapp_business_management",
        secret=True,
        placeholder="EAAG…",
    )
    waba_id: AccountId | None = setting(
        None,
        en="WhatsApp Business account ID",
        ru="Идентификатор аккаунта WhatsApp Business",
        help_en="Beside the phone number ID. For templates, and to subscribe the app to the account's messages by itself",
        help_ru="Рядом с идентификатором номера. Нужен для шаблонов и чтобы приложение само подписалось на сообщения аккаунта",
        placeholder="102290129340398",
    )
    app_secret: MetaSecret = setting(
        default_factory=lambda: Secret(""),
        en="App secret",
        ru="Секрет приложения",
        help_en="Meta for Developers, the app, App settings, Basic. Webhooks are verified by it; without it none is taken. Not "
        "needed where the installation has an application of its own",
        help_ru="Meta for Developers, приложение, App settings, Basic. По нему проверяются вебхуки; без него они не принимаются. "
        "Не нужен, если у установки есть своё приложение",
        secret=True,
    )
    webhook_verify_token: MetaSecret = setting(
        default_factory=lambda: Secret(""),
        en="Verify token",
        ru="Токен проверки (Verify token)",
        help_en="A long random text of your own. Enter the same in the app: WhatsApp, Configuration, Webhook",
        help_ru="Длинный случайный текст, придумайте сами. Введите его же в приложении: WhatsApp, Configuration, Webhook",
        secret=True,
    )
    hook_id: UrlId = hook_id()
