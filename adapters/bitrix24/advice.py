"""What a portal's administrator enters there. Pure; without secrets: the address of events is shown on the integration's page."""

from collections.abc import Sequence

from adapters.base import PUBLIC_URL, Advice
from adapters.bitrix24.incoming import EVENTS
from adapters.bitrix24.settings import Bitrix24Settings


def advice(settings: Bitrix24Settings | None) -> Sequence[Advice]:
    """For an application, or for a webhook."""
    if settings is not None and settings.webhook is not None:
        return (
            Advice(
                {"en": "Click-to-call from Bitrix24", "ru": "Звонки из Битрикс24"},
                {
                    "en": "In the portal: Developer resources, Other, Outbound webhook. As its address enter the webhook address of "
                    "this page, choose these events, and enter its token above as the application token. Then choose "
                    "the webhook as the number for outgoing calls in the telephony settings.",
                    "ru": "В портале: Разработчикам, Другое, Исходящий вебхук. Укажите в нём адрес вебхука с этой страницы, "
                    "выберите эти события, а его токен введите выше как токен приложения. Затем выберите этот вебхук "
                    "номером для исходящих звонков в настройках телефонии.",
                },
                "\n".join(EVENTS),
            ),
        )
    return (
        Advice(
            {"en": "A local application in Bitrix24", "ru": "Локальное приложение в Битрикс24"},
            {
                "en": "In the portal: Developer resources, Other, Local application. Server type, without an interface; "
                "rights crm, telephony, user, task. The path of your handler is this address. Then enter its client id and key above, "
                "save, and connect. As the application token enter the one that the portal shows.",
                "ru": "В портале: Разработчикам, Другое, Локальное приложение. Серверное, без интерфейса в Битрикс24; "
                "права crm, telephony, user, task. Путь обработчика — этот адрес. Затем введите выше его код и ключ, "
                "сохраните и подключите. Токеном приложения введите тот, что показывает портал.",
            },
            f"{PUBLIC_URL}/oauth/{__name__.split('.')[1]}/callback",
        ),
    )
