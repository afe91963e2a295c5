"""Settings that every system reached over HTTP has: how long a request may take. Pure. Read `adapters/http.py` for what they bound."""

from dataclasses import dataclass

from adapters.base import AdapterSettings, setting


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds, from the adapter's settings: to connect, between two pieces, and for one request as a whole."""

    connect_s: float
    read_s: float
    whole_s: float


class HttpSettings(AdapterSettings):
    """Base of the settings classes of such systems."""

    connect_timeout_s: float = setting(
        3.0, en="Seconds to connect", ru="Секунд на соединение", advanced=True, gt=0, le=30
    )
    read_timeout_s: float = setting(
        3.0, en="Seconds to wait for an answer", ru="Секунд на ожидание ответа", advanced=True, gt=0, le=30
    )
    request_timeout_s: float = setting(
        10.0, en="Seconds for a request as a whole", ru="Секунд на запрос целиком", advanced=True, gt=0, le=60
    )

    @property
    def timeouts(self) -> Timeouts:
        """The same for the HTTP client."""
        return Timeouts(connect_s=self.connect_timeout_s, read_s=self.read_timeout_s, whole_s=self.request_timeout_s)
