"""What the widget can show, and what its settings come to. Pure. Read `adapters/widget.py` for what visitors send."""

from adapters.channel import Capabilities, ChatChannel
from adapters.web_widget.settings import WidgetSettings, domains_of, ink_on
from adapters.widget import ANONYMOUS, IDENTIFIED, Widget, events
from gateway.domain.chats import LONGEST_TEXT

CAPABILITIES = Capabilities(text_limit=LONGEST_TEXT, statuses=frozenset({"read"}), typing=True)


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


CHANNEL = ChatChannel(capabilities=CAPABILITIES, events=events, address=address)
