"""What the widget can show, and what its settings come to. Pure. Read `adapters/widget.py` for what visitors send."""

from collections.abc import Sequence
from math import inf

from adapters.base import PUBLIC_URL, Advice
from adapters.channel import Capabilities, ChatChannel
from adapters.web_widget.settings import WidgetSettings, domains_of, ink_on
from adapters.widget import ANONYMOUS, IDENTIFIED, Widget, events
from gateway.domain.chats import LARGEST_FILE, LONGEST_TEXT

CAPABILITIES = Capabilities(
    text_limit=LONGEST_TEXT, statuses=frozenset({"read"}), typing=True,
    files=dict.fromkeys(("image", "voice", "audio", "video", "file"), LARGEST_FILE),
)  # fmt: skip


def address(text: str) -> str:
    """An address of a visitor. Raises ValueError."""
    if not text.startswith((ANONYMOUS, IDENTIFIED)) or not text.isprintable() or len(text) > 300:
        raise ValueError("a visitor's address begins with visitor: or id:")
    return text


def widget(settings: WidgetSettings) -> Widget:
    """One widget, as the gateway serves it."""
    return Widget(
        key=settings.widget_key, domains=domains_of(settings.allowed_domains), title=settings.title, color=settings.color,
        ink=ink_on(settings.color), greeting=settings.greeting, identity_required=settings.identity == "required",
        identity_secret=settings.identity_secret, token_secret=settings.hook_id,
    )  # fmt: skip


def advice(settings: WidgetSettings | None) -> Sequence[Advice]:
    """The line for the site's pages, and what its content policy has to allow."""
    if settings is None:
        return ()
    return (
        Advice(
            title={"en": "Line for the pages of your site", "ru": "Строка для страниц вашего сайта"},
            text={
                "en": "Put it before the end of body. The chat is then shown on the sites that are allowed above.",
                "ru": "Вставьте её перед концом body. Чат появится на сайтах, которые разрешены выше.",
            },
            block=f'<script async src="{PUBLIC_URL}/widget.js" data-key="{settings.widget_key}"></script>',
        ),
        Advice(
            title={
                "en": "If the site has a Content-Security-Policy",
                "ru": "Если у сайта есть Content-Security-Policy",
            },
            text={
                "en": "Add these two sources to it. Nothing else of ours is needed.",
                "ru": "Добавьте в неё эти два источника. Больше от нас ничего не нужно.",
            },
            block=f"script-src {PUBLIC_URL}; frame-src {PUBLIC_URL}",
        ),
    )


CHANNEL = ChatChannel(capabilities=CAPABILITIES, events=events, address=address, drops_repeats_s=inf)
