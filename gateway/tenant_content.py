"""The blocks `profile`, `catalog` and `prompts` of a tenant file as they are read: every problem by its path.

Opens no database. Read `gateway/cli/tenant_content.py` for how they are compared with what is stored.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.domain.profile import OneLine, Profile
from gateway.domain.prompts import LONGEST_NAME, LONGEST_NOTE, Variable, check_content, wrong_variables
from gateway.domain.text import path_of

BLOCKS = ("profile", "catalog", "prompts")
Refuse = Callable[[str, str], None]
"""`refuse(path, text)`: one problem."""


class PromptBlock(BaseModel):
    """A prompt as the file gives it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[OneLine, StringConstraints(min_length=1, max_length=LONGEST_NAME)]
    content: str
    active: bool | None = None
    """Whether bots get it; where it is left out, as it is."""
    variables: tuple[Variable, ...] = ()
    note: Annotated[OneLine, StringConstraints(max_length=LONGEST_NOTE)] = ""


@dataclass(frozen=True, slots=True)
class ContentBlock:
    """The three blocks; None for one that the file does not have. Items and prompts with their places in it."""

    profile: Profile | None = None
    catalog: tuple[tuple[int, Item], ...] | None = None
    prompts: tuple[tuple[int, PromptBlock], ...] | None = None

    def __bool__(self) -> bool:
        return any(block is not None for block in (self.profile, self.catalog, self.prompts))


def read_content(data: Mapping[str, Any], path: str, refuse: Refuse) -> ContentBlock:
    """The blocks of one tenant; every problem is refused by its path."""
    profile = items = prompts = None
    if data.get("profile") is not None:
        profile = _model(Profile, data["profile"], f"{path}.profile", refuse)
    if data.get("catalog") is not None:
        items = tuple(_models(Item, data["catalog"], f"{path}.catalog", refuse))
        _repeats([item.id for _, item in items], f"{path}.catalog", "id", refuse)
        if len(items) > MOST_ITEMS:
            refuse(f"{path}.catalog", f"at most {MOST_ITEMS} items")
    if data.get("prompts") is not None:
        prompts = tuple(_models(PromptBlock, data["prompts"], f"{path}.prompts", refuse))
        _repeats([prompt.name for _, prompt in prompts], f"{path}.prompts", "name", refuse)
        for place, prompt in prompts:
            for name, text in check_content(prompt.content):
                refuse(f"{path}.prompts[{place}].{name}", text)
            for name, text in wrong_variables(prompt.variables):
                refuse(f"{path}.prompts[{place}].{name}", text)
        if sum(prompt.active is True for _, prompt in prompts) > 1:
            refuse(f"{path}.prompts", "one prompt at most can be active")
    return ContentBlock(profile, items, prompts)


def _models(model: type[BaseModel], data: Any, path: str, refuse: Refuse) -> list[tuple[int, Any]]:
    if not isinstance(data, list):
        refuse(path, "must be a list")
        return []
    made = [(place, _model(model, one, f"{path}[{place}]", refuse)) for place, one in enumerate(data)]
    return [(place, one) for place, one in made if one is not None]


def _model(model: type[BaseModel], data: Any, path: str, refuse: Refuse) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            text = "no such field" if one["type"] == "extra_forbidden" else one["msg"]
            refuse(path_of(one["loc"], path), text[:1].lower() + text[1:])
        return None


def _repeats(names: Sequence[str], path: str, what: str, refuse: Refuse) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            refuse(path, f"the {what} {name} is there {times} times")
