"""Settings that every CRM has beside those of its account. Pure."""

from adapters.base import setting
from adapters.http_settings import HttpSettings


class CrmSettings(HttpSettings):
    """Base of the settings classes of CRMs."""

    primary: bool = setting(
        False,
        en="Main CRM for bots",
        ru="Основная CRM для ботов",
        help_en="Where several CRMs are on: the one that bots work with. Otherwise the first",
        help_ru="Если включено несколько CRM: та, с которой работают боты. Иначе первая",
        advanced=True,
    )
