"""Who may open what: one line for every endpoint of the site, and nothing is open without one.

    endpoint -> Need -> `gateway/web/session/guard.py` enforces it before the handler runs

`create_app` refuses to start while an endpoint has no line here or a line has no endpoint. Parts that are mounted later, such as
the table of machine addresses, declare theirs by `declare`. No handler checks a role by itself. Read `guard.py` next.
"""

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from types import MappingProxyType

from quart import Quart

from gateway.domain.people import Role


class Need(Enum):
    """What a request must bring."""

    NOTHING = auto()
    """Files that are the same for everybody; not even the session is looked at."""
    OPEN = auto()
    """The way to sign in: forms are checked, a session is not needed."""
    OWN = auto()
    """A credential that the handler verifies: tokens of machines, links of modules, signatures of recordings."""
    SIGNED_IN = auto()
    """Any person's session: what is one's own."""
    CALLS = auto()
    """A company's calls; an agent gets those of their numbers."""
    DIAL = auto()
    """Placing calls; an agent from their own numbers."""
    CHATS = auto()
    """A company's conversations and customers; an agent gets those that wait for somebody and their own, an auditor no texts."""
    WRITE_CHATS = auto()
    """Answering clients, and what belongs to it."""
    READ = auto()
    """Everything of a company, to look at."""
    CHANGE = auto()
    """Everything of a company, to change."""
    OPERATOR = auto()
    """The installation."""


ROLES: Mapping[Need, frozenset[Role]] = MappingProxyType({
    Need.CALLS: frozenset({Role.ADMIN, Role.AGENT, Role.AUDITOR}),
    Need.DIAL: frozenset({Role.ADMIN, Role.AGENT}),
    Need.CHATS: frozenset({Role.ADMIN, Role.AGENT, Role.AUDITOR}),
    Need.WRITE_CHATS: frozenset({Role.ADMIN, Role.AGENT}),
    Need.READ: frozenset({Role.ADMIN, Role.AUDITOR}),
    Need.CHANGE: frozenset({Role.ADMIN}),
})  # fmt: skip
"""Which of a company's people may what."""

ACCESS: Mapping[str, Need] = MappingProxyType({
    "static_file": Need.NOTHING,
    "icon": Need.NOTHING,
    # Sign-in, and what is one's own.
    "auth.home": Need.OPEN,
    "auth.login": Need.OPEN,
    "auth.sign_in": Need.OPEN,
    "auth.login_once": Need.OPEN,
    "auth.confirmed": Need.OPEN,
    "auth.preferences": Need.OPEN,
    "auth.logout": Need.OPEN,
    "second_step.code_form": Need.OPEN,
    "second_step.enter_code": Need.OPEN,
    "account.welcome": Need.OPEN,
    "account.accept": Need.OPEN,
    "account.security": Need.SIGNED_IN,
    "account.password": Need.SIGNED_IN,
    "account.confirm_factor": Need.SIGNED_IN,
    "account.remove_factor": Need.SIGNED_IN,
    "account.new_codes": Need.SIGNED_IN,
    "account.sessions": Need.SIGNED_IN,
    "account.end_session": Need.SIGNED_IN,
    "account.end_others": Need.SIGNED_IN,
    # A company's people.
    "people.people": Need.READ,
    "people.invite": Need.CHANGE,
    "people.demand": Need.CHANGE,
    "people.member": Need.CHANGE,
    "people.change": Need.CHANGE,
    "people.reset": Need.CHANGE,
    "people.reset_factor": Need.CHANGE,
    "people.confirm_remove": Need.CHANGE,
    "people.remove": Need.CHANGE,
    # Calls.
    "overview.overview": Need.CALLS,
    "overview.day_fragment": Need.CALLS,
    "overview.waiting_fragment": Need.CALLS,
    "search.search": Need.CALLS,
    "missed.missed": Need.CALLS,
    "missed.missed_list": Need.CALLS,
    "missed.done": Need.DIAL,
    "missed.undo": Need.DIAL,
    "calls.calls": Need.CALLS,
    "calls.calls_csv": Need.CALLS,
    "calls.live": Need.CALLS,
    "alerts.alerts": Need.CALLS,
    "calls.call": Need.CALLS,
    "calls.link": Need.CHANGE,
    "calls.retry_fetch": Need.CHANGE,
    "calls.retry_transcript": Need.CHANGE,
    # Chats.
    "inbox.inbox": Need.CHATS,
    "inbox.conversation": Need.CHATS,
    "inbox.list_fragment": Need.CHATS,
    "inbox.thread_fragment": Need.CHATS,
    "inbox.person_fragment": Need.CHATS,
    "inbox.live": Need.CHATS,
    "inbox.send": Need.WRITE_CHATS,
    "inbox.retry": Need.WRITE_CHATS,
    "inbox.act": Need.WRITE_CHATS,
    "saved_replies.listed": Need.CHATS,
    "saved_replies.one": Need.CHANGE,
    "saved_replies.save": Need.CHANGE,
    "saved_replies.confirm_remove": Need.CHANGE,
    "saved_replies.remove": Need.CHANGE,
    "customers.customers": Need.CHATS,
    "customers.customer": Need.CHATS,
    "customers.new": Need.CHANGE,
    "customers.create": Need.CHANGE,
    "customers.edit": Need.WRITE_CHATS,
    "customers.save": Need.WRITE_CHATS,
    "customers.choose": Need.WRITE_CHATS,
    "customers.merge": Need.WRITE_CHATS,
    "customers.unmerge": Need.WRITE_CHATS,
    "person_data.export": Need.CHANGE,
    "person_data.confirm_erase": Need.CHANGE,
    "person_data.erase": Need.CHANGE,
    # Orders.
    "orders.orders": Need.CHATS,
    "orders.part": Need.CHATS,
    "orders.live": Need.CHATS,
    "orders.order": Need.CHATS,
    "orders.move": Need.WRITE_CHATS,
    "orders.new": Need.WRITE_CHATS,
    "orders.create": Need.WRITE_CHATS,
    "orders.edit": Need.WRITE_CHATS,
    "orders.save": Need.WRITE_CHATS,
    "orders.rules": Need.READ,
    "orders.save_rules": Need.CHANGE,
    "dialling.dialling": Need.DIAL,
    "dialling.orders": Need.DIAL,
    "dialling.dial": Need.DIAL,
    "audit.audit": Need.READ,
    "audit.audit_file": Need.READ,
    "notify.page": Need.READ,
    "notify.save": Need.CHANGE,
    "notify.test": Need.CHANGE,
    # Internal numbers.
    "extensions.extensions": Need.READ,
    "extensions.save": Need.CHANGE,
    "extensions.sync": Need.CHANGE,
    "extensions.save_phone": Need.CHANGE,
    "extensions.confirm_remove": Need.CHANGE,
    "extensions.remove_phone": Need.CHANGE,
    # Integrations and PBXes.
    "integrations.trouble_banner": Need.READ,
    "integrations.cards": Need.READ,
    "integrations.integrations": Need.READ,
    "integrations.another": Need.CHANGE,
    "integrations.one": Need.READ,
    "integrations.health": Need.READ,
    "integrations.test": Need.CHANGE,
    "integrations.switch": Need.CHANGE,
    "integrations.confirm_disconnect": Need.CHANGE,
    "integrations.disconnect_it": Need.CHANGE,
    "integrations.confirm_delete": Need.CHANGE,
    "integrations.job": Need.CHANGE,
    "integrations.module": Need.CHANGE,
    "integrations.settings": Need.CHANGE,
    "mapping.rules": Need.READ,
    "mapping.change": Need.CHANGE,
    "login_steps.look": Need.CHANGE,
    "login_steps.submit": Need.CHANGE,
    "oauth.callback": Need.OPEN,  # a redirect brings no company: what is found by its state is checked there
    "oauth.start": Need.OPEN,
    "pbxes.new": Need.CHANGE,
    "pbxes.add": Need.CHANGE,
    "pbxes.pbx": Need.READ,
    "pbxes.health": Need.READ,
    "pbxes.settings": Need.CHANGE,
    "pbxes.test": Need.CHANGE,
    "pbxes.switch": Need.CHANGE,
    "pbxes.confirm_remove": Need.CHANGE,
    "pbxes.remove": Need.CHANGE,
    # Deliveries and keys.
    "deliveries.deliveries": Need.READ,
    "deliveries.deliveries_csv": Need.READ,
    "deliveries.ask": Need.CHANGE,
    "deliveries.replay": Need.CHANGE,
    "api_keys.keys": Need.READ,
    "api_keys.create": Need.CHANGE,
    "api_keys.confirm_rotate": Need.CHANGE,
    "api_keys.rotate": Need.CHANGE,
    "api_keys.confirm_revoke": Need.CHANGE,
    "api_keys.revoke": Need.CHANGE,
    # Profile, catalog, prompts.
    "profile.profile": Need.READ,
    "profile.save": Need.CHANGE,
    "catalog.table": Need.READ,
    "catalog.one": Need.READ,
    "catalog.file": Need.READ,
    "catalog.add": Need.CHANGE,
    "catalog.save": Need.CHANGE,
    "catalog.confirm_remove": Need.CHANGE,
    "catalog.remove": Need.CHANGE,
    "catalog.preview": Need.CHANGE,
    "catalog.upload": Need.CHANGE,
    "catalog.confirm": Need.CHANGE,
    "prompts.listed": Need.READ,
    "prompts.editor": Need.READ,
    "prompts.history": Need.READ,
    "prompts.do": Need.CHANGE,
    "prompts.activate": Need.CHANGE,
    "prompts.restore": Need.CHANGE,
    "prompts.confirm_remove": Need.CHANGE,
    "prompts.remove": Need.CHANGE,
    # The installation.
    "operators.tenants": Need.OPERATOR,
    "companies.new": Need.OPERATOR,
    "companies.create": Need.OPERATOR,
    "companies.created": Need.OPERATOR,
    "installation.installation": Need.OPERATOR,
    "operators.actors": Need.OPERATOR,
    "operators.actors_picture": Need.OPERATOR,
    "operators.restart": Need.OPERATOR,
    "operators.confirm_delete": Need.OPERATOR,
    "operators.delete": Need.OPERATOR,
    "operators_audit.audit": Need.OPERATOR,
    "operators_audit.audit_file": Need.OPERATOR,
    "acting.ask": Need.OPERATOR,
    "acting.begin": Need.OPERATOR,
    "acting.stop": Need.OPERATOR,
    "acting.leave": Need.OPERATOR,
    "letters.dead_letters": Need.OPERATOR,
    "letters.confirm_dismiss": Need.OPERATOR,
    "letters.dismiss": Need.OPERATOR,
    "letters.replay": Need.OPERATOR,
})  # fmt: skip
"""The pages of every installation."""

RECORDINGS: Mapping[str, Need] = MappingProxyType({"recordings.file": Need.OWN})
"""Where there are recordings."""

_MODULE = ("enter", "save", "sync", "settings", "test", "confirm_delete", "delete", "preferences", "logout")
_DECLARED = "gateway.access"


class Undeclared(RuntimeError):
    """The site must not start: an endpoint that nobody has declared, or a line without an endpoint."""


def module_access(kinds: Iterable[str]) -> dict[str, Need]:
    """The pages that outside systems open by a module's link."""
    return {f"module_{kind}.{name}": Need.OWN for kind in kinds for name in _MODULE}


def declare(app: Quart, lines: Mapping[str, Need]) -> None:
    """Adds lines to an app's table. A second, different line for an endpoint is an error."""
    table: dict[str, Need] = app.extensions.setdefault(_DECLARED, {})
    for endpoint, need in lines.items():
        if table.setdefault(endpoint, need) is not need:
            raise Undeclared(f"{endpoint} is declared twice, and differently")


def declared(app: Quart) -> Mapping[str, Need]:
    """The app's table."""
    table: Mapping[str, Need] = app.extensions.get(_DECLARED, {})
    return table


def check(app: Quart) -> None:
    """Raises Undeclared unless endpoints and lines are the same."""
    table = declared(app)
    endpoints = {str(rule.endpoint) for rule in app.url_map.iter_rules()}
    if missing := sorted(endpoints - table.keys()):
        raise Undeclared(f"endpoints without a line in gateway/web/session/access.py: {', '.join(missing)}")
    if extra := sorted(table.keys() - endpoints):
        raise Undeclared(f"lines without an endpoint in gateway/web/session/access.py: {', '.join(extra)}")
    unnumbered = [
        str(rule.endpoint) for rule in app.url_map.iter_rules()
        if table[str(rule.endpoint)] in ROLES and "number" not in rule.arguments
    ]  # fmt: skip
    if unnumbered:
        raise Undeclared(f"needs a company, and its address names none: {', '.join(sorted(unnumbered))}")
