"""Settings that every system reached over HTTP has: how long a request may take. Pure. Read `adapters/http/client.py` for what they bound."""

from adapters.base import AdapterSettings, setting


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
