"""Summaries of calls as a client reads them when it delivers one."""

from dataclasses import dataclass, field

from gateway.domain.calls import Call, Phase
from gateway.domain.errors import Rejected
from gateway.domain.events import Direction, Result
from gateway.domain.ids import CallId
from tests.adapters.conftest import at

RECORDING = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
SUMMARY = 'Клиент спросил про "две" [большие] пиццы.\nДальше: Анна перезвонит & скажет цену.'


@dataclass
class Summaries:
    """The recordings of one tenant."""

    texts: dict[str, str] = field(default_factory=lambda: {RECORDING: SUMMARY})

    async def content_type(self, link: str) -> str:
        raise Rejected(link)

    async def content(self, link: str, most: int) -> bytes | None:
        raise Rejected(link)

    async def summary(self, recording_id: str) -> str:
        if recording_id not in self.texts:
            raise Rejected("the summary is gone")
        return self.texts[recording_id]


def answered_call(caller: str = "+375291112233", direction: Direction = Direction.INCOMING) -> Call:
    """A call that is over."""
    return Call(
        call_id=CallId("1"), phase=Phase.ENDED, direction=direction, caller=caller, called="+375171234567", trunk="t",
        started_at=at(), answered_at=at(5), ended_at=at(60), talk_s=55.0, result=Result.ANSWERED, extension="150",
    )  # fmt: skip


def unshown(text: str) -> bool:
    """Whether a log holds no word of the summary."""
    return not any(word in text for word in ("Клиент", "пиццы", "Анна", "цену"))
