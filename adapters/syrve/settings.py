"""The settings of a link to Syrve: those of the restaurant cloud, with Syrve's host. Read `adapters/till/settings.py` next.

Older Syrve accounts are reached at the other brand's European host: it is entered as the address of the API.
"""

from typing import ClassVar

from adapters.till.settings import TillSettings


class SyrveSettings(TillSettings):
    """How one company's Syrve is reached."""

    HOST: ClassVar[str] = "https://api-eu.syrve.live"
