"""What an account's administrator enters there, and how a number is dialled from it. Pure; without secrets."""

from collections.abc import Sequence

from adapters.amocrm.settings import AmoSettings
from adapters.base import PUBLIC_URL, Advice

_DIAL = Advice(
    {"en": "Click-to-call from amoCRM", "ru": "Звонки из amoCRM"},
    {
        "en": "amoCRM calls nobody by itself: a widget or a link does. This is the address for one, with an API key of the scope "
        "call (Company, API keys), the internal number and the number to dial.",
        "ru": "Сама amoCRM никому не звонит: звонит виджет или ссылка. Вот её адрес — с ключом API с правом call "
        "(«Компания», «Ключи API»), внутренним номером и номером, который набрать.",
    },
    f"{PUBLIC_URL}/api/makecallexternal?clientId=API_KEY&code=150&phone=NUMBER",
)


def advice(settings: AmoSettings | None) -> Sequence[Advice]:
    """For a long-lived token, or for an application."""
    if settings is not None and settings.access_token is not None:
        return (_DIAL,)
    return (
        Advice(
            {"en": "An integration in amoCRM", "ru": "Интеграция в amoCRM"},
            {
                "en": "In the account: amoMarket, the menu, Create an integration, External. Its redirect address is this one; give it "
                "access to the data. Then enter its id and secret key above, save and connect, or enter a long-lived token made there.",
                "ru": "В аккаунте: amoМаркет, меню, «Создать интеграцию», «Внешняя интеграция». Ссылка для перенаправления — "
                "этот адрес; дайте доступ к данным. Затем введите выше её ID и секретный ключ, сохраните и подключите — или введите "
                "созданный там долгосрочный токен.",
            },
            f"{PUBLIC_URL}/oauth/{__name__.split('.')[1]}/callback",
        ),
        _DIAL,
    )
