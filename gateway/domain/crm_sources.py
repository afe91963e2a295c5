"""What field mapping can write into a CRM: a closed list of sources, each with its value of a call, client, order or chat. Pure.

A source is `SUBJECT.NAME`. Which there are depends on what a rule is for (`when`): a rule for orders may also take what is known of the
client. A value is a text, a number, or true and false; None where it is not known. Times are ISO 8601 in the company's zone.
Read `adapters/mapping.py` for the rules, `docs/tenant-file.md` for the list as administrators read it (a test keeps them equal).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, get_args

from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ChatFacts, ClientFacts, OrderFacts
from gateway.domain.events import Direction, Result
from gateway.domain.order_texts import order_text
from gateway.domain.orders import ORDER_KINDS, ORDER_STATUSES, delivery_text, quantity_text

When = Literal["call", "contact", "order", "chat"]
"""What a rule is for."""
WHENS: tuple[When, ...] = get_args(When)
Value = str | int | float | bool
SourceType = Literal["text", "number", "time", "flag", "choice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One source."""

    name: str
    en: str
    ru: str
    type: SourceType = "text"
    choices: tuple[str, ...] = ()
    """All values of a choice."""
    read: Callable[[Any, Tenant], Value | None]
    """Its value of a Call, ClientFacts, OrderFacts or ChatFacts, by the beginning of its name."""

    @property
    def subject(self) -> str:
        """What it is of: call, contact, order, chat or company."""
        return self.name.partition(".")[0]

    @property
    def label(self) -> Mapping[str, str]:
        """By language."""
        return {"en": self.en, "ru": self.ru}


def _time(moment: datetime | None, tenant: Tenant) -> str | None:
    return moment.astimezone(tenant.timezone).isoformat(timespec="seconds") if moment is not None else None


def _talked(call: Call) -> str | None:
    """The employee of a call: whoever talked last, or placed it."""
    return call.last_extension or call.employee


def _of(name: str, en: str, ru: str, read: Callable[[Any, Tenant], Value | None], type_: SourceType = "text", choices: tuple[str, ...] = ()) -> Source:  # fmt: skip
    return Source(name=name, en=en, ru=ru, type=type_, choices=choices, read=read)


_CALL: tuple[Source, ...] = (
    _of("call.id", "Call's id", "Идентификатор звонка", lambda call, tenant: call.call_id),
    _of("call.direction", "Direction", "Направление", lambda call, tenant: call.direction.value, "choice",
        (Direction.INCOMING.value, Direction.OUTGOING.value)),
    _of("call.result", "Result", "Результат", lambda call, tenant: call.result.value if call.result is not None else None, "choice",
        tuple(one.value for one in Result)),
    _of("call.uncertain", "Whether it is uncertain how the call ended", "Неизвестно ли, чем кончился звонок",
        lambda call, tenant: call.uncertain, "flag"),
    _of("call.phone", "Client's number", "Номер клиента", lambda call, tenant: call.outside or None),
    _of("call.company_number", "Number that the client dialled", "Номер, на который позвонил клиент",
        lambda call, tenant: call.called or None if call.direction is Direction.INCOMING else None),
    _of("call.started_at", "Began at", "Начало", lambda call, tenant: _time(call.started_at, tenant), "time"),
    _of("call.ended_at", "Ended at", "Конец", lambda call, tenant: _time(call.ended_at, tenant), "time"),
    _of("call.duration_s", "Seconds of talk", "Секунд разговора", lambda call, tenant: max(0, round(call.talk_s or 0)), "number"),
    _of("call.wait_s", "Seconds until the answer", "Секунд до ответа",
        lambda call, tenant: round(call.wait_s) if call.wait_s is not None else None, "number"),
    _of("call.employee", "Employee's internal number", "Внутренний номер сотрудника", lambda call, tenant: _talked(call) or None),
    _of("call.employee_name", "Employee's name", "Имя сотрудника", lambda call, tenant: tenant.owner_of(_talked(call)) or None),
    _of("call.rang", "Internal numbers that rang", "Внутренние номера, на которых звонило", lambda call, tenant: ", ".join(call.rang) or None),
    _of("call.queue", "Queue", "Очередь", lambda call, tenant: call.queue or None),
    _of("call.recording", "Link to the recording", "Ссылка на запись", lambda call, tenant: call.recording or None),
)  # fmt: skip
_CONTACT: tuple[Source, ...] = (
    _of("contact.id", "Contact's id", "Идентификатор контакта", lambda client, tenant: client.id or None),
    _of("contact.name", "Name", "Имя", lambda client, tenant: client.name or None),
    _of("contact.phone", "Phone", "Телефон", lambda client, tenant: next(iter(client.phones), None)),
    _of("contact.phones", "All phones", "Все телефоны", lambda client, tenant: ", ".join(client.phones) or None),
    _of("contact.email", "E-mail", "Почта", lambda client, tenant: next(iter(client.emails), None)),
    _of("contact.link", "Link to the client here", "Ссылка на клиента у нас", lambda client, tenant: client.link or None),
)  # fmt: skip
_ORDER: tuple[Source, ...] = (
    _of("order.id", "Order's id", "Идентификатор заказа", lambda facts, tenant: str(facts.order.id)),
    _of("order.number", "Order's number", "Номер заказа", lambda facts, tenant: facts.order.number, "number"),
    _of("order.kind", "Kind", "Вид", lambda facts, tenant: facts.order.kind, "choice", ORDER_KINDS),
    _of("order.status", "Status", "Статус", lambda facts, tenant: facts.order.status, "choice", ORDER_STATUSES),
    _of("order.total", "Total", "Сумма", lambda facts, tenant: f"{facts.order.total:f}", "number"),
    _of("order.currency", "Currency", "Валюта", lambda facts, tenant: facts.order.currency),
    _of("order.items", "Items on one line", "Позиции одной строкой",
        lambda facts, tenant: "; ".join(f"{line.name} × {quantity_text(line.quantity)}" for line in facts.order.lines) or None),
    _of("order.text", "The whole order in words", "Весь заказ словами",
        lambda facts, tenant: order_text(facts.order, tenant.timezone, tenant.language)),
    _of("order.comment", "Comment", "Комментарий", lambda facts, tenant: facts.order.comment or None),
    _of("order.delivery", "Delivery", "Доставка", lambda facts, tenant: delivery_text(facts.order.delivery) or None),
    _of("order.starts_at", "Time of a booking", "Время бронирования", lambda facts, tenant: _time(facts.order.starts_at, tenant), "time"),
    _of("order.party", "Guests of a booking", "Гостей в бронировании", lambda facts, tenant: facts.order.party, "number"),
    _of("order.call_phone", "Number to call back", "Номер для обратного звонка", lambda facts, tenant: facts.order.call_phone),
    _of("order.agreed", "Whether the client has agreed", "Подтвердил ли клиент", lambda facts, tenant: facts.order.agreed_at is not None, "flag"),
    _of("order.created_at", "Made at", "Создан", lambda facts, tenant: _time(facts.order.created_at, tenant), "time"),
    _of("order.channel", "Messenger", "Мессенджер", lambda facts, tenant: facts.channel or None),
    _of("order.link", "Link to the order here", "Ссылка на заказ у нас", lambda facts, tenant: facts.link or None),
)  # fmt: skip
_CHAT: tuple[Source, ...] = (
    _of("chat.id", "Conversation's id", "Идентификатор диалога", lambda chat, tenant: chat.id),
    _of("chat.channel", "Messenger", "Мессенджер", lambda chat, tenant: str(chat.channel)),
    _of("chat.integration", "Integration's key", "Ключ интеграции", lambda chat, tenant: chat.integration),
    _of("chat.username", "Client's name in the messenger", "Имя клиента в мессенджере", lambda chat, tenant: chat.username or None),
    _of("chat.cause", "Why it is told", "Почему передан", lambda chat, tenant: chat.cause, "choice", ("closed", "handed_over")),
    _of("chat.employee", "Who closed it", "Кто закрыл", lambda chat, tenant: chat.employee or None),
    _of("chat.summary", "Summary", "Краткое содержание", lambda chat, tenant: chat.summary or None),
    _of("chat.messages", "Number of messages", "Число сообщений", lambda chat, tenant: chat.messages, "number"),
    _of("chat.began_at", "Began at", "Начало", lambda chat, tenant: _time(chat.began_at, tenant), "time"),
    _of("chat.ended_at", "Last message at", "Последнее сообщение", lambda chat, tenant: _time(chat.ended_at, tenant), "time"),
    _of("chat.link", "Link to the conversation here", "Ссылка на диалог у нас", lambda chat, tenant: chat.link or None),
)  # fmt: skip
_COMPANY: tuple[Source, ...] = (
    _of("company.number", "Company's number", "Номер компании", lambda facts, tenant: tenant.number),
    _of("company.name", "Company's name", "Название компании", lambda facts, tenant: tenant.name),
)

_BY_WHEN: tuple[tuple[When, tuple[Source, ...]], ...] = (
    ("call", (*_CALL, *_COMPANY)),
    ("contact", (*_CONTACT, *_COMPANY)),
    ("order", (*_ORDER, *_CONTACT, *_COMPANY)),
    ("chat", (*_CHAT, *_CONTACT, *_COMPANY)),
)
SOURCES: Mapping[When, Mapping[str, Source]] = MappingProxyType(
    {when: MappingProxyType({one.name: one for one in found}) for when, found in _BY_WHEN}
)
"""What rules of each sort may take, by name."""

Facts = Call | ClientFacts | OrderFacts | ChatFacts


def value_of(when: When, name: str, facts: Facts, tenant: Tenant) -> Value | None:
    """A source's value; None where it is not known. Raises KeyError for a source that `when` does not have."""
    source = SOURCES[when][name]
    if source.subject == "contact" and isinstance(facts, OrderFacts | ChatFacts):
        return source.read(facts.client, tenant)
    return source.read(facts, tenant)
