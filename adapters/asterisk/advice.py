"""What a PBX administrator pastes on their side: the least-rights manager user, and the events it is to be sent. Pure.

The rights are the fewest that report calls correctly, and those for placing and redirecting calls. The filter keeps
everything else off the line; `eventfilter` lines without `!` let through what matches any of them.
Sources: Asterisk, manager.conf.sample and manager.c (privileges of Originate, Redirect, CoreShowChannels).
"""

from collections.abc import Sequence

from adapters.asterisk.calls import MARKED, WANTED
from adapters.asterisk.settings import AsteriskSettings
from adapters.base import GATEWAY_ADDRESS, Advice

READ = "call,cdr,agent,reporting"
WRITE = "reporting,originate,call"
LISTEN_ONLY = "reporting"
OURS = frozenset((b"OriginateResponse",))
LINE_LENGTH = 200
"""manager.conf takes lines of 255 bytes."""


def advice(settings: AsteriskSettings | None) -> Sequence[Advice]:
    """For these settings, or for none yet."""
    return (
        Advice(
            title={"en": "On the PBX: manager.conf", "ru": "На АТС: manager.conf"},
            text={
                "en": "Add this user, put in the password that is entered here, check the address (it is the one from which "
                "this gateway connects, unless something between translates it), then run: asterisk -rx 'manager reload'. To listen only, without calls from the CRM and redirects, "
                f"leave write = {LISTEN_ONLY}.",
                "ru": "Добавьте этого пользователя, впишите пароль, указанный здесь, проверьте адрес (с него подключается "
                "этот шлюз, если по пути адреса не подменяются), затем выполните: asterisk -rx 'manager reload'. Чтобы только слушать, без звонков из CRM и "
                f"перевода, оставьте write = {LISTEN_ONLY}.",
            },
            block=manager_conf(settings.username if settings is not None else "gateway"),
        ),
    )


def manager_conf(username: str) -> str:
    """The section of manager.conf. The password is not in it: it is not ours to show."""
    lines = [
        f"[{username}]",
        "secret = PASSWORD",
        "deny = 0.0.0.0/0.0.0.0",
        f"permit = {GATEWAY_ADDRESS}/255.255.255.255",
        f"read = {READ}",
        f"write = {WRITE}",
        "writetimeout = 5000",
        *(f"eventfilter = {pattern}" for pattern in event_filters()),
    ]
    return "\n".join(lines) + "\n"


def event_filters() -> list[str]:
    """Regular expressions that match exactly the events we listen to."""
    found: list[str] = []
    names: list[str] = []
    for name in sorted(event.decode() for event in WANTED | OURS):
        if len("|".join([*names, name])) > LINE_LENGTH:
            found.append(_filter(names))
            names = []
        names.append(name)
    found.append(_filter(names))
    for event, marks in sorted(MARKED.items()):
        found += [f"Event: {event.decode()}.*{mark.decode().strip()}" for mark in marks]
    return found


def _filter(names: Sequence[str]) -> str:
    return f"^Event: ({'|'.join(names)})[[:space:]]"
