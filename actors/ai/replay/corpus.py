"""A file of scripted conversations: companies with their profile, catalog and prompt; what clients write; what is right then.

Every problem of a file is named by its path. Days are said relative to the day of the run: `{tomorrow}` and `{in_2_days}` to
`{in_6_days}` in a text become dates, and `day: tomorrow` of a booking is such a day. Read `scoring.py` for what is right.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from gateway.domain.catalog import Item
from gateway.domain.profile import Profile
from gateway.domain.prompts import Variable, placed, validation
from gateway.domain.text import path_of
from gateway.domain.yaml_text import load_yaml

OURS = "conversations.yaml"
LARGEST = 8 << 20
DAYS: Mapping[str, int] = {"today": 0, "tomorrow": 1, **{f"in_{n}_days": n for n in range(2, 7)}}
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]


class BadCorpus(Exception):
    """A file that cannot be played; `problems` names each by its path."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, ZoneInfoNotFoundError):
        raise ValueError("must be a time zone such as Europe/Minsk") from None
    return text


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Company(_Part):
    """A company of the corpus."""

    name: Word
    language: Literal["ru", "en"]
    country: Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")] = "BY"
    timezone: Annotated[str, AfterValidator(_zone)] = "Europe/Minsk"
    profile: Profile = Profile()
    catalog: tuple[Item, ...] = ()
    prompt: str
    variables: tuple[Variable, ...] = ()
    allow_links: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _usable(self) -> "Company":
        if problems := validation(self.prompt, self.variables, self.profile.business_type):
            raise ValueError(f"prompt: {placed(problems[0])}")
        return self


class Booking(_Part):
    """A booking that is there."""

    item: Word
    day: Literal["today", "tomorrow", "in_2_days", "in_3_days", "in_4_days", "in_5_days", "in_6_days"]
    at: Annotated[str, StringConstraints(pattern="^[0-2][0-9]:[0-5][0-9]$")]
    party: int | None = None


class Person(_Part):
    """What is known of the client; what is left out does not count."""

    name: Word | None = None
    phone: Word | None = None
    email: Word | None = None


class Expect(_Part):
    """What is right after a step. What is left out is not looked at, but for `hand_over`, invention, and orders nobody wants."""

    items: dict[str, Decimal] | None = None
    """The newest order of the conversation: item -> how many."""
    total: Decimal | None = None
    """Of the newest order or booking."""
    booking: Booking | None = None
    agreed: bool | None = None
    """Whether the newest order or booking counts, for the client has agreed to it."""
    cancelled: bool | None = None
    request: bool | None = None
    """Whether a task was left to people."""
    call: Word | None = None
    """The number at which people are to call."""
    contact: Person | None = None
    says: tuple[Word, ...] = ()
    """Each stands in the answer, in upper or lower case; `a|b`: one of them."""
    never: tuple[Word, ...] = ()
    """None of them stands in the answer."""
    hand_over: bool = False
    """Whether the conversation goes to a person with this step."""


class Step(_Part):
    """Something that is written: by the client, or by a colleague, who then gives the conversation back."""

    client: Word | None = None
    person: Word | None = None
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _one(self) -> "Step":
        if (self.client is None) == (self.person is None):
            raise ValueError("has either `client` or `person`")
        return self


class Conversation(_Part):
    """One conversation, which begins with nothing."""

    id: Name
    company: Name | None = None
    """None: the company that the run is for."""
    language: Literal["ru", "en"] | None = None
    """As the client's messenger names it."""
    name: str = ""
    """As the messenger shows the client."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=40)]


class Corpus(_Part):
    """The whole file."""

    companies: dict[Name, Company] = Field(default_factory=dict)
    conversations: Annotated[tuple[Conversation, ...], Field(min_length=1, max_length=2000)]

    @model_validator(mode="after")
    def _consistent(self) -> "Corpus":
        for one in self.conversations:
            if one.company is not None and one.company not in self.companies:
                raise ValueError(f"conversation {one.id}: there is no company {one.company}")
        if repeated := [name for name, count in Counter(one.id for one in self.conversations).items() if count > 1]:
            raise ValueError(f"two conversations are called {repeated[0]}")
        return self


def read_corpus(path: Path | None = None) -> Corpus:
    """The conversations of a file, or ours. Raises BadCorpus, and OSError."""
    if path is None:
        text = files("actors.ai.replay").joinpath(OURS).read_text("utf-8")
    else:
        if path.stat().st_size > LARGEST:
            raise BadCorpus(f"{path}: larger than {LARGEST >> 20} MiB")
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise BadCorpus(f"{path}: is not UTF-8") from None
    where = path.name if path is not None else OURS
    try:
        data = load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise BadCorpus(f"{where}{line}: {getattr(error, 'problem', None) or 'is not YAML'}") from None
    except RecursionError:
        raise BadCorpus(f"{where}: is nested too deeply") from None
    if not isinstance(data, dict):
        raise BadCorpus(f"{where}: must be an object with companies and conversations")
    try:
        return Corpus.model_validate(data)
    except ValidationError as error:
        raise BadCorpus(*(f"{where}: {path_of(one['loc'], '')}: {one['msg']}" for one in error.errors()[:20])) from None


@dataclass(frozen=True, slots=True)
class Today:
    """The days that a text of the corpus means."""

    day: date

    def of(self, name: str) -> date:
        """The day of a name such as `tomorrow`."""
        return self.day + timedelta(days=DAYS[name])

    def filled(self, text: str) -> str:
        """The text with dates in place of names of days."""
        for name in DAYS:
            text = text.replace(f"{{{name}}}", f"{self.of(name):%d.%m.%Y}")
        return text
