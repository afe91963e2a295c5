"""What is entered on the other side. Pure; without secrets: the webhook's address is shown on the integration's page."""

from collections.abc import Sequence

from adapters.base import PUBLIC_URL, Advice
from adapters.till.settings import TillSettings

RIGHTS = (
    "organizations, terminal groups", "menu, stop-lists", "guests", "deliveries: create, change, read", "commands", "webhooks",
    "notifications",
)  # fmt: skip


def advice(settings: TillSettings | None) -> Sequence[Advice]:
    """The rights of the access; the webhook, where a person enters it."""
    made = [
        Advice(
            {"en": "Access in the web office", "ru": "Доступ в веб-офисе"},
            {
                "en": "Make an API login (settings of the Cloud API), or an API key for an application of the developers' portal. Give it "
                "this organization and these rights; the last is for attentions at the till.",
                "ru": "Создайте API-логин (настройки Cloud API) или API-ключ для приложения с портала разработчиков. Дайте ему эту "
                "организацию и такие права; последнее — для уведомлений на кассе.",
            },
            "\n".join(RIGHTS),
        )
    ]
    if settings is not None and not settings.set_webhook:
        made.append(
            Advice(
                {"en": "Webhook entered by hand", "ru": "Вебхук вручную"},
                {
                    "en": "Enter the webhook's address that this page shows; it begins with the one below. Without our token webhooks are "
                    "refused unless “Webhooks must bring our token” is off.",
                    "ru": "Укажите адрес вебхука с этой страницы; он начинается с адреса ниже. Без нашего токена вебхуки отвергаются, "
                    "если не выключить «Вебхук должен приходить с нашим токеном».",
                },
                f"{PUBLIC_URL}/hooks/",
            )
        )
    return made
