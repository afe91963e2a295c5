"""The card of a call, and what Telegram's answers mean. Pure: no clock, no network, no secret in a draft.

A card is one message per call and chat that is sent when the call begins and edited as it goes on; each state of the
call makes one draft, and a draft that is outdated before its first attempt is dropped (`latest_only`). The last one comes once
more, with a button to the recording, when that is there.

Owns the words of the card in both languages and the classification of the answers: by code and parameters, and by
the text of the few that have nothing else to tell them apart. Never sends; read `client.py` next. Over 400 lines: each word
of a card and each reason stands in both languages.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from adapters.base import Draft
from adapters.telegram.settings import GENERAL, Place, TelegramSettings
from gateway.domain.calls import Call, Phase
from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from gateway.domain.events import CallEnded, CallEvent, Direction, Result
from gateway.domain.reasons import in_language
from gateway.domain.texts import LANGUAGES

CARD, RECORDING = "call_card", "card_recording"
TEXT_LIMIT = 4096
"""In UTF-16 units, as Telegram counts."""

USEFUL_S = 3600.0
RECORDING_S = 600.0
"""Seconds that a card waits for its recording; later ones are found by the call's page."""


# The card ------------------------------------------------------------------------------------------------------------

_WORDS: Mapping[str, tuple[str, str]] = {
    "incoming": ("📞 Incoming call", "📞 Входящий звонок"),
    "outgoing": ("📤 Outgoing call", "📤 Исходящий звонок"),
    "internal": ("🔁 Internal call", "🔁 Внутренний звонок"),
    "from": ("From", "От"),
    "to": ("To", "Кому"),
    "dialled": ("Dialled", "На номер"),
    "began": ("Began", "Начало"),
    "rings": ("Rings", "Звонит"),
    "rang": ("Rang", "Звонили"),
    "connecting": ("Connecting…", "Соединяем…"),
    "talks": ("Talking", "Разговаривает"),
    "talked": ("Talked", "Разговаривал"),
    "moved": ("Transferred to", "Переведён на"),
    "duration": ("Talk time", "Длительность"),
    "waited": ("Waited", "Ожидание"),
    "queue": ("Queue", "Очередь"),
    "anonymous": ("hidden number", "скрытый номер"),
    "more": ("and {} more", "и ещё {}"),
    "merged": ("↪️ Joined to another call", "↪️ Присоединён к другому звонку"),
    "answered": ("✅ Answered", "✅ Состоялся"),
    "missed": ("❌ Missed", "❌ Пропущен"),
    "busy": ("⛔ Busy", "⛔ Занято"),
    "failed": ("⚠️ Failed", "⚠️ Не удался"),
    "no_answer": ("❌ No answer", "❌ Нет ответа"),
    "cancelled": ("🚫 Cancelled", "🚫 Отменён"),
    "uncertain": (
        "⚠️ The link to the phone system was interrupted; this may be incomplete.",
        "⚠️ Связь с АТС прерывалась; сведения могут быть неполными.",
    ),
}


_UNKNOWN = frozenset({"?", "s", "unknown", "<unknown>"})
"""What a PBX puts where it does not know the number that was dialled."""


def plan(
    settings: TelegramSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:
    """A draft for every chat when the card has changed."""

    def reported(state: Call | None) -> str | None:
        hidden = state is None or (state.direction is Direction.INTERNAL and not settings.notify_internal)
        return None if state is None or hidden else card(tenant, state)

    text = reported(call)
    if text is None:
        return ()
    drafts = _drafts(settings, tenant, call, text) if text != reported(before) else []
    if isinstance(event, CallEnded) and event.recording and re.match("https?://", event.recording):
        drafts += _with_recording(settings, tenant, call, text, event.recording)
    return drafts


def plan_start(settings: TelegramSettings, tenant: Tenant, call: Call) -> Sequence[Draft]:
    """A draft for every chat when a call is announced that rings nowhere yet; the first event of it changes the card."""
    hidden = call.direction is Direction.INTERNAL and not settings.notify_internal
    return () if hidden else _drafts(settings, tenant, call, card(tenant, call))


def _drafts(settings: TelegramSettings, tenant: Tenant, call: Call, text: str) -> list[Draft]:
    return [
        Draft(
            kind=CARD,
            key=f"{call.call_id}:{place}:{call.events}",
            lane=f"{call.call_id}:{place}",
            body=_body(tenant, call, place, text),
            expires_s=USEFUL_S,
            keep_s=USEFUL_S,
            bucket=_bucket(place),
            latest_only=True,
        )
        for place in settings.places
    ]


def _with_recording(settings: TelegramSettings, tenant: Tenant, call: Call, text: str, link: str) -> list[Draft]:
    """The card of a call that has ended, to be shown with its recording. In the card's lane: its message is known there."""
    return [
        Draft(
            kind=RECORDING,
            key=f"{call.call_id}:{place}:recording",
            lane=f"{call.call_id}:{place}",
            body={**_body(tenant, call, place, text), "recording": link},
            expires_s=RECORDING_S,
            keep_s=RECORDING_S,
            bucket=_bucket(place),
        )
        for place in settings.places
    ]


def _body(tenant: Tenant, call: Call, place: Place, text: str) -> dict[str, Any]:
    page = {"page": f"/t/{tenant.number}/calls/{quote(call.call_id, safe='')}"} if call.phase is Phase.ENDED else {}
    return {"chat": place.chat, "text": text, **page, **({"topic": place.topic} if place.topic is not None else {})}


def _bucket(place: Place) -> str:
    return f"{'group' if place.chat < 0 else 'chat'}:{place.chat}"


def card(tenant: Tenant, call: Call) -> str:
    """The card as HTML. Of a ring group too long for one message only the first phones are named."""
    for most in (24, 6, 0):
        text = "\n".join(_lines(tenant, call, most))
        if units(text) <= TEXT_LIMIT:
            break
    return text


def units(text: str) -> int:
    """The length of a text as Telegram counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _lines(tenant: Tenant, call: Call, most: int) -> list[str]:
    def word(name: str) -> str:
        return _WORDS[name][tenant.language == "ru"]

    def line(name: str, value: str) -> str:
        return f"{word(name)}: {value}"

    def person(number: str | None) -> str:
        if number == "anonymous":
            return word("anonymous")
        owner = _clean(tenant.owner_of(number))
        return f"{_clean(number or '?')} {owner}".rstrip()

    def people(numbers: Sequence[str]) -> str:
        named = [person(number) for number in numbers[:most]]
        rest = len(numbers) - len(named)
        return ", ".join([*named, *([word("more").format(rest)] if rest else [])])

    ended = call.phase is Phase.ENDED
    title = word(call.direction.value)
    outcome = word(call.result.value) if ended and call.result is not None and not call.uncertain else ""
    lines = [f"<b>{title}</b>" + (f" — {outcome}" if outcome else ""), line("from", person(call.caller))]
    if call.called and call.called not in _UNKNOWN:
        lines.append(line("dialled" if call.direction is Direction.INCOMING else "to", person(call.called)))
    lines.append(line("began", call.started_at.astimezone(tenant.timezone).strftime("%d.%m %H:%M:%S")))
    if call.queue:
        lines.append(line("queue", _clean(call.queue)))
    if call.phase is Phase.RINGING:
        outgoing = call.direction is Direction.OUTGOING
        lines.append(line("rings", people(call.ringing)) if call.ringing and not outgoing else word("connecting"))
    elif call.phase is Phase.MERGED:
        lines.append(word("merged"))
    else:
        talked = call.phase is Phase.TALKING or call.result is Result.ANSWERED
        if talked and call.extension:
            lines.append(line("talked" if ended else "talks", person(call.extension)))
        if talked and call.last_extension and call.last_extension != call.extension:
            lines.append(line("moved", person(call.last_extension)))
        if ended and not talked and call.rang:
            lines.append(line("rang", people(call.rang)))
        if ended and call.talk_s is not None:
            lines.append(line("duration", _clock(call.talk_s)))
        if (waited := _waited(call)) is not None:
            lines.append(line("waited", _clock(waited)))
    if call.uncertain:
        lines.append(word("uncertain"))
    return lines


def _waited(call: Call) -> float | None:
    if call.wait_s is not None or call.ended_at is None or call.result is Result.ANSWERED:
        return call.wait_s
    return (call.ended_at - call.started_at).total_seconds()


def _clean(value: str) -> str:
    """A name or number as a part of one line: what others chose must not add lines, tags or very long text."""
    printable = "".join(dead_letter if dead_letter.isprintable() else " " for dead_letter in value)
    short = " ".join(printable.split())
    return html.escape(short if len(short) <= 64 else short[:63] + "…", quote=False)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


# Requests ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reference:
    """The message that shows the card: `17`, or `17@-1001234567890` in the chat that the configured one became."""

    message: int
    chat: int | None = None

    def __str__(self) -> str:
        return str(self.message) if self.chat is None else f"{self.message}@{self.chat}"

    @classmethod
    def read(cls, text: str | None) -> "Reference | None":
        """The inverse of `str`; None for no reference, and for what is none."""
        found = re.fullmatch(r"([0-9]{1,18})(?:@(-?[0-9]{1,18}))?", text or "")
        return None if found is None else cls(int(found[1]), int(found[2]) if found[2] else None)


def to_place(chat: int, topic: int | None) -> dict[str, Any]:
    """The parameters that name a chat and its topic."""
    return {"chat_id": chat, **({"message_thread_id": topic} if topic not in (None, GENERAL) else {})}


def buttons(tenant: Tenant, public_url: str, page: str, recording: str = "") -> dict[str, Any] | None:
    """The buttons below a card: to the call's page, and to its recording. None where Telegram would refuse their addresses: it
    takes no host without a dot, such as localhost. Source: Bot API, "InlineKeyboardButton"."""
    host = urlsplit(public_url).hostname or ""
    if not page or "." not in host:
        return None
    russian = tenant.language == "ru"
    row = [{"text": "Открыть звонок" if russian else "Open the call", "url": f"{public_url.rstrip('/')}{page}"}]
    if recording:
        row.append({"text": "🎧 Запись" if russian else "🎧 Recording", "url": recording})
    return {"inline_keyboard": [row]}


def message(
    chat: int, text: str, *, topic: int | None = None, edit: int | None = None, markup: bool = True,
    buttons: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The body of a sendMessage, or with `edit` of an editMessageText, which knows the topic by itself. Without `markup` it has
    neither tags nor buttons."""
    return {
        **to_place(chat, topic if edit is None else None),
        **({} if edit is None else {"message_id": edit}),
        "text": text if markup else html.unescape(re.sub("</?b>", "", text)),
        **({"parse_mode": "HTML"} if markup else {}),
        **({"reply_markup": dict(buttons)} if markup and buttons else {}),
        "link_preview_options": {"is_disabled": True},
    }


# Answers -------------------------------------------------------------------------------------------------------------


class Unclear(Exception):
    """What came is no answer of the Bot API: whether the request had an effect is not known."""


class NotLikeThis(Exception):
    """A refusal after which something else can be tried."""


class Unchanged(NotLikeThis):
    """The message shows this text already."""


class Gone(NotLikeThis):
    """The message to edit is there no longer, or may not be edited."""


class BadMarkup(NotLikeThis):
    """Telegram takes the markup of the text, or its buttons, for wrong."""


class BadTopic(NotLikeThis):
    """The topic is closed or not there; `code` names which."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class Migrated(NotLikeThis):
    """The group has become a supergroup with another id."""

    def __init__(self, chat: int) -> None:
        super().__init__(f"the chat is now {chat}")
        self.chat = chat


def read_answer(status: int, text: str, retry_after: str | None = None) -> Any:
    """The `result` of an answer. Raises ours for a refusal, `NotLikeThis` where the client can
    go on, `Unclear` where it cannot be known."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise _no_answer(status, retry_after)
    if answer["ok"]:
        return answer.get("result")
    code = answer.get("error_code")
    code = code if isinstance(code, int) else status
    said = str(answer.get("description") or "")[:500]
    parameters = answer.get("parameters")
    raise _refusal(code, said, parameters if isinstance(parameters, dict) else {}, retry_after)


def _seconds(value: Any) -> float | None:
    return float(value) if re.fullmatch("[0-9]{1,6}", str(value)) else None


def _refusal(code: int, said: str, parameters: Mapping[str, Any], retry_after: str | None) -> Exception:
    detail, low = f"{code}: {said}", said.lower()
    if isinstance(chat := parameters.get("migrate_to_chat_id"), int):
        return Migrated(chat)
    if code == 429:
        return RateLimited(detail, after_s=_seconds(parameters.get("retry_after", retry_after)))
    if code in (401, 404):  # a malformed or revoked token; the methods themselves exist
        return BadCredentials(detail)
    if code == 400:
        if "message is not modified" in low:
            return Unchanged(said)
        if re.search("message to edit not found|message can't be edited|message_id_invalid", low):
            return Gone(said)
        if "topic_closed" in low:
            return BadTopic(detail, "topic_closed")
        if re.search("message thread not found|topic_deleted|topic_id_invalid", low):
            return BadTopic(detail, "topic_not_found")
        if re.search("can't parse|button_url_invalid|button url|reply_markup", low):
            return BadMarkup(said)
        if "temporarily unavailable" in low:
            return Unavailable(detail)
    if code == 421:
        return BadSettings(detail)
    if code == 409 or code >= 500:
        return Unavailable(detail)
    return Rejected(detail)


def _no_answer(status: int, retry_after: str | None) -> Exception:
    """Not the Bot API's own words: a proxy's, or none. Of the errors only a gateway's timeout leaves a doubt."""
    detail = f"status {status} without an answer of the Bot API"
    if status == 429:
        return RateLimited(detail, after_s=_seconds(retry_after))
    if status in (401, 404):
        return BadCredentials(detail)
    if status >= 500 and status != 504:
        return Unavailable(detail)
    if 400 <= status < 500:
        return Rejected(detail)
    return Unclear(detail)


# The connection test -------------------------------------------------------------------------------------------------

_SAID: Mapping[str, tuple[str, str]] = {
    "ok": ("The bot @{} can write to: {}.", "Бот @{} может писать в: {}."),
    "no_chats": (
        "The bot @{} works. No chats for notifications yet.",
        "Бот @{} работает. Чаты для уведомлений не заданы.",
    ),
    "chat_not_found": (
        "The bot @{} works, but is not in: {}. Add it there, or correct the id.",
        "Бот @{} работает, но не состоит в: {}. Добавьте его туда или исправьте идентификатор.",
    ),
    "no_right": (
        "The bot @{} may not write to: {}. Make it an administrator there, or allow it to send messages.",
        "Бот @{} не может писать в: {}. Сделайте его там администратором или разрешите ему отправлять сообщения.",
    ),
    "topic_closed": (
        "The topic is closed: {}. Open it in Telegram, make the bot an administrator who may manage topics, or name another "
        "topic, such as -1001234567890/17.",
        "Тема закрыта: {}. Откройте её в Telegram, сделайте бота администратором с правом управлять темами или укажите "
        "другую тему, например -1001234567890/17.",
    ),
    "topic_not_found": (
        "There is no such topic: {}. Copy the number from a link to a message of the topic, and write "
        "-1001234567890/17.",
        "Такой темы нет: {}. Возьмите её номер из ссылки на сообщение этой темы и запишите так: -1001234567890/17.",
    ),
    "chat_migrated": (
        "The chat has a new id: {}. Enter it in the settings.",
        "У чата новый идентификатор: {}. Укажите его в настройках.",
    ),
    "bad_credentials": ("Telegram refused the token.", "Telegram не принял токен."),
    "bad_settings": ("Telegram cannot be reached this way ({}).", "Так до Telegram не добраться ({})."),
    "rate_limited": ("Telegram asks us to slow down. Try again.", "Telegram просит подождать. Повторите попытку."),
    "unavailable": ("Telegram does not answer ({}).", "Telegram не отвечает ({})."),
    "rejected": ("Telegram refused the request ({}).", "Telegram отклонил запрос ({})."),
}


def text_of(tenant: Tenant, code: str, *values: str) -> str:
    """The sentence for one finding of the test, in the company's language."""
    return texts_of(code, *values)[tenant.language]


def texts_of(code: str, *values: str) -> Mapping[str, str]:
    """The same by language."""
    return {
        language: text.format(*(in_language(one, language) for one in values))
        for language, text in zip(LANGUAGES, _SAID[code], strict=True)
    }


def finding(error: GatewayError) -> str:
    """The code of what stopped the test."""
    kinds = ((BadCredentials, "bad_credentials"), (BadSettings, "bad_settings"), (RateLimited, "rate_limited"))
    for kind, code in kinds:
        if isinstance(error, kind):
            return code
    return "unavailable" if isinstance(error, Unavailable) else "rejected"


def may_write(chat: Any, member: Any) -> bool:
    """Whether a bot that is `member` of `chat` may write there, by what getChatMember and getChat answered."""
    known, there = (one if isinstance(one, dict) else {} for one in (chat, member))
    match there.get("status"):
        case "creator":
            return True
        case "administrator":
            return known.get("type") != "channel" or there.get("can_post_messages") is True
        case "restricted":
            return there.get("is_member") is True and there.get("can_send_messages") is True
        case "member":
            rights = known.get("permissions")
            silent = isinstance(rights, dict) and rights.get("can_send_messages") is False
            return known.get("type") != "channel" and not silent
        case _:
            return False


def place_title(chat: Any, place: Place) -> str:
    """How a place calls itself: the chat's name, and the number of the topic."""
    return title(chat, place.chat) + (f" / {place.topic}" if place.topic is not None else "")


def title(chat: Any, fallback: int) -> str:
    """How a chat calls itself."""
    known = chat if isinstance(chat, dict) else {}
    return str(known.get("title") or known.get("username") or known.get("first_name") or fallback)[:64]
