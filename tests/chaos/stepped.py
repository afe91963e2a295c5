"""`python -m tests.chaos.stepped ARGUMENTS`: the gateway with a wall clock that the harness can set.

CHAOS_CLOCK names a file that holds one double: by how many seconds this process's clock is ahead. Only what the
product's own modules read with `datetime.now` moves; the monotonic clock and the database's do not, as when one machine of two is set.
"""

import datetime as real
import mmap
import os
import struct
import sys
from typing import Any

import gateway.app
from gateway.cli import main


class _Like(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real.datetime)


def set_clock(file: str) -> None:
    """Gives every loaded module of the product the clock of the file."""
    with open(file, "r+b") as held:
        ahead = mmap.mmap(held.fileno(), 8)

    class Stepped(real.datetime, metaclass=_Like):
        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> Any:
            return real.datetime.now(tz) + real.timedelta(seconds=struct.unpack("d", ahead[:8])[0])

    for name, module in list(sys.modules.items()):
        if (
            name.partition(".")[0] in ("gateway", "actors", "adapters")
            and vars(module).get("datetime") is real.datetime
        ):
            vars(module)["datetime"] = Stepped


if __name__ == "__main__":
    assert gateway.app
    set_clock(os.environ.pop("CHAOS_CLOCK"))
    main()
