"""The catalog searched by what a client wrote: full text in Russian and English, beginnings of words, and typing mistakes."""

import re
from collections.abc import Sequence

from gateway.domain.catalog import Item
from gateway.domain.ids import TenantId
from gateway.store.catalog_items import ITEM_COLUMNS, item_of
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

MOST_WORDS = 12
LIKE = 0.5
"""The share of a word's three-letter pieces that have to be in an item for it to be meant."""
_WORD = re.compile(r"[^\W_]+")


def words_of(query: str) -> list[str]:
    """The words that are looked for: letters and digits alone, so that none is an operator of a query."""
    found = _WORD.findall(storable(query)[:500].lower())
    return list(dict.fromkeys(word[:40] for word in found if len(word) > 1 or word.isdigit()))[:MOST_WORDS]


async def search_items(conn: Connection, tenant: TenantId, query: str, most: int) -> list[Item]:
    """The items that fit best, those that can be had first; with mistakes in the words where none fits them as they are."""
    words = words_of(query)
    if not words:
        return []
    return await _exact(conn, tenant, words, most) or await _alike(conn, tenant, words, most)


async def _exact(conn: Connection, tenant: TenantId, words: Sequence[str], most: int) -> list[Item]:
    rows = await conn.fetch(
        f"""
        SELECT {ITEM_COLUMNS} FROM (
            SELECT c.*, (SELECT count(*) FROM unnest($2::text[]) AS w (word)
                         WHERE c.search @@ (to_tsquery('russian', w.word || ':*') || to_tsquery('simple', w.word || ':*'))) AS fits,
                   ts_rank(c.search, to_tsquery('russian', $3)) AS rank
            FROM catalog_items c WHERE c.tenant_id = $1 AND c.search @@ (to_tsquery('russian', $3) || to_tsquery('simple', $3))
        ) AS found
        ORDER BY fits DESC, available DESC, rank DESC, sort_order, item_id LIMIT $4
        """,  # noqa: S608 - constant columns
        tenant,
        list(words),
        " | ".join(f"{word}:*" for word in words),
        most,
    )
    return [item_of(row) for row in rows]


async def _alike(conn: Connection, tenant: TenantId, words: Sequence[str], most: int) -> list[Item]:
    rows = await conn.fetch(
        f"""
        WITH pieces AS (
            SELECT w.word, p.piece, count(*) OVER (PARTITION BY w.word) AS pieces
            FROM unnest($2::text[]) AS w (word), unnest(word_trigrams(w.word)) AS p (piece)
        ), alike AS (
            SELECT c.item_id, p.word, count(*)::float8 / min(p.pieces) AS likeness
            FROM catalog_items c, unnest(c.trigrams) AS t (piece) JOIN pieces p ON p.piece = t.piece
            WHERE c.tenant_id = $1 AND c.trigrams && (SELECT array_agg(piece) FROM pieces)
            GROUP BY 1, 2 HAVING count(*)::float8 / min(p.pieces) >= $3
        ), best AS (SELECT item_id, count(*) AS fits, sum(likeness) AS likeness FROM alike GROUP BY 1)
        SELECT {", ".join(f"c.{name.strip()}" for name in ITEM_COLUMNS.split(","))}
        FROM best b JOIN catalog_items c ON c.tenant_id = $1 AND c.item_id = b.item_id
        ORDER BY b.fits DESC, b.likeness DESC, c.available DESC, c.sort_order, c.item_id LIMIT $4
        """,  # noqa: S608 - constant columns
        tenant,
        list(words),
        LIKE,
        most,
    )
    return [item_of(row) for row in rows]


async def select_mentioned(conn: Connection, tenant: TenantId, texts: Sequence[str]) -> set[str]:
    """Which of these links and numbers stand in the catalog; numbers are digits alone, however they are written there."""
    rows = await conn.fetch(
        """
        SELECT w.word FROM unnest($2::text[]) AS w (word)
        WHERE EXISTS (
            SELECT FROM catalog_items c WHERE c.tenant_id = $1 AND (
                strpos(lower(concat_ws(' ', c.description, c.image_url, c.attributes::text, c.name)), lower(w.word)) > 0
                OR (w.word ~ '^[0-9]{7,}$' AND strpos(regexp_replace(concat_ws(' ', c.name, c.description, c.attributes::text), '[ ()./+-]', '', 'g'),
                                                      w.word) > 0)))
        """,
        tenant,
        [storable(one)[:500] for one in texts],
    )
    return {row[0] for row in rows}
