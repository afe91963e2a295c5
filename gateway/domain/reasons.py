"""Why a connection failed, in both languages: the English sentence is what errors, logs and rows hold, and the key of the other.

`reason(NAME, ...)` makes the English one; `in_language` finds it within any text that a person reads and gives theirs. Values such
as host names stay as they are. Pure.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

REASONS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "forbidden": ("{host} may not be connected to: {why}", "с {host} соединяться нельзя: {why}"),
    "not_a_name": ("not a host name: {host}", "это не имя сервера: {host}"),
    "no_such_name": ("{host}: there is no such name", "{host}: такого имени нет"),
    "names_away": ("{host}: the name servers do not answer", "{host}: серверы имён не отвечают"),
    "no_look_up": ("{host}: the name cannot be looked up", "{host}: имя не удалось найти"),
    "name_in_time": ("the name was not resolved in time", "имя не удалось найти вовремя"),
    "not_usable": ("not a usable address", "таким адресом пользоваться нельзя"),
    "not_a_site": (
        "the address is not one of a web server, or holds a password", "это не адрес веб-сервера, или в нём есть пароль",
    ),
    "no_connection": ("no connection in time", "нет соединения за отведённое время"),
    "no_tls": ("no connection: TLS was refused", "нет соединения: сервер не принял TLS"),
    "refused": ("no connection: the server refuses it", "нет соединения: сервер его не принимает"),
    "no_route": ("no connection: there is no way to the server", "нет соединения: нет пути к серверу"),
    "no_login_answer": ("{host} did not answer the login", "{host} не отвечает на вход"),
    "no_answer": ("{host} did not answer in time", "{host} не отвечает вовремя"),
    "no_channels": ("{host} did not list its channels", "{host} не перечислил свои каналы"),
    "pbx_closed": ("the PBX closed the connection", "АТС закрыла соединение"),
    "broke": ("the connection broke", "соединение прервалось"),
    "closed": ("the connection was closed", "соединение закрыто"),
    "no_https": (
        "the installation has no public https address: set PUBLIC_URL", "у установки нет публичного адреса https: задайте PUBLIC_URL",
    ),
    "no_deals_there": (
        "the route's integration is not connected, switched off, or has no deals", "интеграция маршрута не подключена, выключена или в ней нет сделок",
    ),
    "taken_in_time": ("the request was not taken in time", "запрос не принят вовремя"),
})  # fmt: skip
"""English and Russian, by name. `{why}` is one or more of WHYS."""
WHYS: Mapping[str, str] = MappingProxyType({
    "this host": "этот же сервер", "private": "частная сеть", "shared": "сеть оператора связи", "loopback": "этот же сервер",
    "metadata": "служебный адрес облака", "link-local": "адрес только одного сегмента сети", "reserved": "зарезервированный адрес",
    "documentation": "адрес для примеров", "benchmarking": "адрес для испытаний", "multicast": "групповой адрес",
    "our own listener": "это сам шлюз", "plain http": "без шифрования (http)", "port {n}": "порт {n}",
})  # fmt: skip
"""Russian by English."""


def reason(name: str, **values: str) -> str:
    """The English sentence."""
    return REASONS[name][0].format_map(values)


def in_language(text: str, language: str) -> str:
    """A text with the reasons in it put into a language. Values are not looked into but for `why`."""
    if language == "en" or not text:
        return text
    for pattern, other in _patterns():
        text = pattern.sub(other, text)
    return text


@cache
def _patterns() -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    named = {"host": r"(?P<host>'[^']*'|[^\s:(\[]+(?::\d+)?|\[[^\]\s]+\])", "why": f"(?P<why>{_why()}(?:, {_why()})*)"}
    found = []
    for english, other in REASONS.values():
        pattern = re.escape(english).replace(r"\ ", " ")
        for name, group in named.items():
            pattern = pattern.replace(r"\{" + name + r"\}", group)
        found.append((re.compile(pattern), _into(other)))
    return found


def _why() -> str:
    return "(?:" + "|".join(re.escape(one).replace(r"\{n\}", r"\d+") for one in WHYS) + ")"


def _into(other: str) -> Callable[[re.Match[str]], str]:
    def put(match: re.Match[str]) -> str:
        values = match.groupdict()
        if "why" in values:
            values["why"] = ", ".join(dict.fromkeys(map(_one_why, values["why"].split(", "))))
        return other.format_map(values)

    return put


def _one_why(text: str) -> str:
    if (number := re.fullmatch(r"port (\d+)", text)) is not None:
        return WHYS["port {n}"].format(n=number[1])
    return WHYS.get(text, text)
