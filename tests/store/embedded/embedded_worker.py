"""A process of its own for `test_embedded`: opens the embedded server, says so, stays until told to go.

python -m tests.store.embedded.embedded_worker DATA_DIR ROLE     prints "ours PID" or "attached", ends at the end of stdin
"""

import sys
from pathlib import Path

import trio

from gateway.store.embedded.embedded import embedded
from gateway.store.postgres.errors import NoServer
from gateway.store.postgres.pool import OwnConnection, open_session


async def look(conn: OwnConnection) -> object:
    return await conn.fetchval("SELECT 1")


async def main(data_dir: Path, role: str) -> None:
    try:
        async with embedded(data_dir, role="run" if role == "run" else "command") as server:
            async with open_session(server.dsn) as session:
                await session.run(look)
            pid = (data_dir / "postgres").glob("*/postmaster.pid")
            print("ours" if server.ours else "attached", next(pid).read_text().split()[0], flush=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
    except NoServer as error:
        print("refused", error.person, flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), sys.argv[2])
