"""The settings of a link to iiko: those of the restaurant cloud, with iiko's host. Read `adapters/till/settings.py` next."""

from typing import ClassVar

from adapters.till.settings import TillSettings


class IikoSettings(TillSettings):
    """How one company's iiko is reached."""

    HOST: ClassVar[str] = "https://api-ru.iiko.services"
