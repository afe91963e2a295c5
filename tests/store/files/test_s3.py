"""Recordings in a bucket: signatures by AWS's published vectors and by a strict sandbox, whole objects, ranges, lists."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.files.blobs import Missing
from gateway.store.files.s3 import S3Blobs, authorization
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import new_master_key, parse_master_keys
from tests.sandbox.s3 import S3
from tests.store.files.test_recording_files import CANARY, JUNE, Vault, sound

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# "Signature Calculations for the Authorization Header" in the S3 API reference: its four examples.
VECTORS = [
    (
        "GET", "/test.txt", {}, {"range": "bytes=0-9"}, EMPTY,
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        "PUT", "/test%24file.text", {}, {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    ("GET", "/", {"lifecycle": ""}, {}, EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    (
        "GET", "/", {"max-keys": "2", "prefix": "J"}, {}, EMPTY,
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "query", "headers", "payload", "signature"), VECTORS)
def test_the_signatures_are_those_that_aws_publishes(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], payload: str, signature: str
) -> None:
    signed = authorization(
        method, "examplebucket.s3.amazonaws.com", path, query, headers, payload,
        at=datetime(2013, 5, 24, tzinfo=UTC), region="us-east-1", access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )  # fmt: skip
    assert signed["authorization"].endswith(f"Signature={signature}")


class Bucket:
    """A vault whose objects lie in the sandbox."""

    def __init__(self, vault: Vault, s3: S3, url: str) -> None:
        self.vault, self.s3, self.url = vault, s3, url
        self.stack = AsyncExitStack()

    async def blobs(self, **changes: str) -> S3Blobs:
        keys = {"access_key": self.s3.access_key, "secret_key": self.s3.secret_key, **changes}
        given = Secret(keys["access_key"]), Secret(keys["secret_key"])
        return await self.stack.enter_async_context(S3Blobs(self.url, self.s3.bucket, self.s3.region, *given))


@pytest.fixture
async def bucket(db: Database, tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Bucket]:
    s3 = S3()
    url = await nursery.start(s3.serve)
    vault = Vault(db, tmp_path, parse_master_keys(new_master_key()))
    await vault.add(JUNE)
    bucket = Bucket(vault, s3, url)
    async with bucket.stack:
        vault.recording_files.blobs = await bucket.blobs()
        yield bucket


async def test_a_recording_goes_in_whole_and_comes_out_in_parts(bucket: Bucket) -> None:
    vault, data = bucket.vault, sound(700_001)
    assert [await vault.send(data) for _ in range(2)] == ["accepted", "duplicate"]
    ((name, (stored, _)),) = bucket.s3.objects.items()
    assert name.startswith("0367/")
    assert CANARY not in stored
    assert vault.files() == [], "nothing stays in the spool"
    (line,) = await vault.lines("7.1")
    assert await vault.received(line.recording_id) == data
    assert await vault.received(line.recording_id, 65_000, 400_000) == data[65_000:400_000]
    assert {status for _, _, status in bucket.s3.requests} <= {200, 206}


async def test_a_store_that_refuses_is_a_503_and_leaves_nothing(bucket: Bucket) -> None:
    bucket.s3.refuse = 500
    with pytest.raises(Unavailable):
        await bucket.vault.send(sound())
    bucket.s3.refuse = 0
    bucket.vault.recording_files.blobs = await bucket.blobs(secret_key="wrong")
    with pytest.raises(Unavailable) as raised:
        await bucket.vault.send(sound())
    assert "403" in str(raised.value)
    assert bucket.s3.objects == {}
    assert bucket.vault.files() == []
    assert await bucket.vault.lines("7.1") == []


async def test_objects_are_listed_by_age_and_deleted(bucket: Bucket) -> None:
    blobs, s3 = await bucket.blobs(), bucket.s3
    s3.page = 2
    names = [f"0367/{n:064x}-{'0' * 16}" for n in range(5)]
    old = datetime.now(UTC) - timedelta(hours=2)
    s3.objects = {name: (b"x", old if n % 2 == 0 else datetime.now(UTC)) for n, name in enumerate(names)}
    s3.objects["somebody-else's"] = (b"x", old)
    found = [name for batch in [batch async for batch in blobs.old_names(3600.0)] for name in batch]
    assert found == names[::2]
    for name in (names[0], names[0]):
        await blobs.delete(name)
    assert await blobs.size(names[0]) is None
    assert await blobs.size(names[1]) == 1
    with pytest.raises(Missing):
        await blobs.read(names[0], 0, 1)
    with pytest.raises(ValueError, match="not the name"):
        await blobs.delete("somebody-else's")


async def test_everything_of_a_tenant_goes_and_nothing_else(bucket: Bucket) -> None:
    blobs, s3 = await bucket.blobs(), bucket.s3
    s3.page = 2
    names = [f"036/{n:064x}-{'0' * 16}" for n in range(5)]
    others = [f"0367/{0:064x}-{'0' * 16}", "036/notes.txt", f"a036/{0:064x}-{'0' * 16}"]
    s3.objects = {name: (b"x", datetime.now(UTC)) for name in (*names, *others)}
    await blobs.delete_all(TenantId("036"))
    assert sorted(s3.objects) == sorted(others)
    await blobs.delete_all(TenantId("036"))
