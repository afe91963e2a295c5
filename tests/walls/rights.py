"""`python -m tests.walls.rights`: writes `rights.txt` from a freshly migrated database, for whoever has judged the change."""

from pathlib import Path

import trio

from gateway.store.embedded.embedded import embedded
from gateway.store.postgres.migrate import migrate
from gateway.store.postgres.pool import open_session
from gateway.store.postgres.roles import LOGIN
from tests.store.database import quick_folder
from tests.walls.database_walls import DAY, rights

HEAD = """\
# What each role may do in the database: object | role | rights. Whatever is not here is refused to everybody but the owner.
# gateway_app is the role of pages, inside one company; gateway_engine sees every company. A test compares this file with the
# catalogue; after a migration, judge each difference and then write the file anew: python -m tests.walls.rights
"""


async def main() -> None:
    """Writes the file."""
    with quick_folder() as folder:
        async with embedded(folder, settings={"fsync": "off"}) as server:
            await migrate(server.dsn, login=LOGIN, make_login=True)
            async with open_session(server.dsn) as session:
                lines = [line for line in await session.run(rights) if not DAY.match(line)]
    Path(__file__).with_name("rights.txt").write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    trio.run(main)
