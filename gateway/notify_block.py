"""Who hears of trouble, as it is declared: the block `notify` of a company in the tenant file and of the installation's own file.

Read `gateway/domain/notices.py` for when a message is sent.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from adapters.registry import adapters
from gateway.domain.ids import Kind
from gateway.domain.notices import KINDS as TROUBLES
from gateway.domain.notices import Kind as TroubleKind
from gateway.domain.people import wrong_with_email

MOST_PLACES = 20
"""Chats of one messenger that hear of trouble."""


def email_address(text: str) -> str:
    """The address in lower case. Raises ValueError for what is none."""
    if wrong_with_email(text):
        raise ValueError("is not an e-mail address")
    return text.lower()


class NotifyBlock(BaseModel):
    """Who hears of trouble. Beside `email` and `when`, a field for each messenger that can show a text: a list of its chats."""

    model_config = ConfigDict(frozen=True, extra="allow")

    email: tuple[Annotated[str, AfterValidator(email_address)], ...] = ()
    when: tuple[TroubleKind, ...] = TROUBLES

    @model_validator(mode="after")
    def _places(self) -> "NotifyBlock":
        able = {kind: one for kind, one in adapters().items() if one.notice is not None}
        for name, places in (self.model_extra or {}).items():
            adapter = able.get(Kind(name))
            if adapter is None or adapter.notice is None:
                raise ValueError(f"{name}: no such field; there are email, when, {', '.join(able)}")
            if not isinstance(places, list | tuple) or len(places) > MOST_PLACES:
                raise ValueError(f"{name}: must be a list of at most {MOST_PLACES} chats")
            for place in places:
                adapter.notice(str(place), "")
        return self
