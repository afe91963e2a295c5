"""API keys as rows: in force until revoked or over, replaced by another, read by one tenant alone."""

from datetime import UTC, datetime, timedelta

from gateway.domain.ids import TenantId
from gateway.store.api_keys import (
    insert_api_key,
    note_key_uses,
    revoke_api_keys,
    rotate_api_key,
    select_api_keys,
    select_key_by_hash,
    select_key_by_id,
    select_keys_to_rotate,
)
from gateway.store.postgres.pool import Database
from tests.store.test_call_orders import A, B, store

__all__ = ["store"]

DAY_S = 86400.0


async def make(store: Database, name: str = "dialler", ends: datetime | None = None, of: TenantId = A) -> str:
    return await store.engine(insert_api_key, of, name.encode(), name, ("call",), f"gw_live_{name[:8]}", ends)


async def test_a_key_is_found_by_its_hash_and_by_its_id_until_it_is_revoked(store: Database) -> None:
    key_id = await make(store)
    by_hash = await store.engine(select_key_by_hash, b"dialler")
    assert by_hash == await store.engine(select_key_by_id, A, key_id)
    assert by_hash is not None
    assert (by_hash.tenant, by_hash.scopes, by_hash.name) == (A, ("call",), "dialler")
    assert await store.engine(select_key_by_id, B, key_id) is None
    assert await store.tenant(B, select_api_keys, B) == []
    assert await store.engine(revoke_api_keys, B, "dialler") == []
    assert await store.engine(revoke_api_keys, A, "dialler") == ["gw_live_dialler"]
    assert await store.engine(select_key_by_hash, b"dialler") is None
    assert await store.engine(select_key_by_id, A, key_id) is None
    assert await store.engine(revoke_api_keys, A, "dialler") == []


async def test_a_key_is_revoked_by_name_by_its_first_characters_and_by_id(store: Database) -> None:
    await make(store, "one")
    await make(store, "two")
    key_id = await make(store, "three")
    for which in ("one", "gw_live_two", key_id):
        assert len(await store.engine(revoke_api_keys, A, which)) == 1


async def test_a_key_whose_time_is_over_is_not_in_force(store: Database) -> None:
    now = datetime.now(UTC)
    await make(store, "over", now - timedelta(seconds=1))
    await make(store, "alive", now + timedelta(hours=1))
    assert await store.engine(select_key_by_hash, b"over") is None
    assert await store.engine(select_key_by_hash, b"alive") is not None
    assert [line.name for line in await store.tenant(A, select_api_keys, A) if line.in_force(now)] == ["alive"]


async def test_the_last_use_only_moves_forward(store: Database) -> None:
    key_id, now = await make(store), datetime.now(UTC)
    for moment in (now, now - timedelta(minutes=5)):
        await store.engine(note_key_uses, [(A, key_id, moment), (B, key_id, now + timedelta(hours=1))])
    (line,) = await store.tenant(A, select_api_keys, A)
    assert line.last_used_at == now


async def test_a_replaced_key_lives_for_a_day_and_the_new_one_as_long_as_the_old_one_did(store: Database) -> None:
    now = datetime.now(UTC)
    key_id = await make(store, "monthly", now + timedelta(days=30))
    assert await store.engine(select_keys_to_rotate, A, "monthly") == [(key_id, "gw_live_monthly")]
    new = await store.engine(rotate_api_key, A, key_id, b"new", "gw_live_new", DAY_S)
    assert new is not None
    assert (new.name, new.scopes) == ("monthly", ("call",))
    assert new.expires_at is not None
    assert abs(new.expires_at - (now + timedelta(days=30))) < timedelta(minutes=1)
    old = await store.engine(select_key_by_hash, b"monthly")
    assert old is not None
    assert old.expires_at is not None
    assert abs(old.expires_at - (now + timedelta(days=1))) < timedelta(minutes=1)
    assert await store.engine(rotate_api_key, A, key_id, b"newer", "gw_live_newer", DAY_S) is None
    assert await store.engine(select_keys_to_rotate, A, "monthly") == [(new.key_id, "gw_live_new")]


async def test_rotation_lengthens_no_life_and_one_without_end_has_none_after_it(store: Database) -> None:
    now = datetime.now(UTC)
    short, endless = await make(store, "short", now + timedelta(hours=1)), await make(store, "endless")
    await store.engine(rotate_api_key, A, short, b"1", "gw_live_1", DAY_S)
    old = await store.engine(select_key_by_hash, b"short")
    assert old is not None
    assert old.expires_at == now + timedelta(hours=1)
    new = await store.engine(rotate_api_key, A, endless, b"2", "gw_live_2", DAY_S)
    assert new is not None
    assert new.expires_at is None
    assert await store.engine(rotate_api_key, B, new.key_id, b"3", "gw_live_3", DAY_S) is None


async def test_the_list_goes_on_behind_the_last_one_known(store: Database) -> None:
    for number in range(5):
        await make(store, f"key{number}")
    first = await store.tenant(A, select_api_keys, A, None, 2)
    after = first[-1].created_at, first[-1].key_id
    rest = await store.tenant(A, select_api_keys, A, after, 10)
    assert [line.name for line in (*first, *rest)] == ["key4", "key3", "key2", "key1", "key0"]
