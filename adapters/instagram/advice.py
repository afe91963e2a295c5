"""What has to be entered at Meta, and allowed in the Instagram app, by a person: no request can do it. Pure."""

from collections.abc import Sequence

from adapters.base import Advice
from adapters.instagram.incoming import FIELDS
from adapters.instagram.settings import InstagramSettings


def advice(settings: InstagramSettings | None) -> Sequence[Advice]:
    """The fields of the application's webhook, with where the rest is entered. No secrets: the address stands on the page itself."""
    return (
        Advice(
            title={"en": "To enter at Meta", "ru": "Что ввести в Meta"},
            text={
                "en": "In Meta for Developers open the app and its webhooks for Instagram. Callback URL is the address that this page "
                "shows, Verify token the one entered here; subscribe to these fields. The app must be published (Live). In the Instagram app "
                "allow access: Settings, Messages and story replies, Message controls, Connected tools, Allow access to messages.",
                "ru": "В Meta for Developers откройте приложение и его вебхуки для Instagram. Callback URL — адрес с этой страницы, "
                "Verify token — тот, что введён здесь; подпишитесь на эти поля. Приложение должно быть опубликовано (Live). В приложении "
                "Instagram разрешите доступ: Settings, Messages and story replies, Message controls, Connected tools, Allow access to "
                "messages.",
            },
            block=", ".join(sorted(FIELDS)),
        ),
    )
