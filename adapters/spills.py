"""Where backlogs put what memory does not hold, and how much of the disk all of them may have together.

Plain data; `adapters/backlog.py` does the work.
"""

import errno
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass
class Spills:
    """One for the process. Without a folder nothing is put on the disk."""

    folder: Path | None = None
    limit: int = 0
    used: int = 0
    share: float = 0.5
    """The part of the limit that one backlog may take: who floods leaves room for the others."""
    threads: Any = None
    """The limiter of the threads that do it; None: the event loop's own."""

    def open(self) -> IO[bytes]:
        """A file without a name, for its owner alone. Raises OSError."""
        if self.folder is None:
            raise FileNotFoundError(errno.ENOENT, "there is no folder for it")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self.folder, buffering=0)
