"""What the process opens or makes from its settings alone, for `gateway run` and for short commands: the place of recordings,
and the dialer for addresses that tenants supply. Read `gateway.app` next.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import trio

from adapters.http import SafeDialer
from gateway.settings import Settings
from gateway.store.files.blobs import BlobStore, FolderBlobs
from gateway.store.files.s3 import S3Blobs
from gateway.store.secrets.seal import MasterKeys, load_master_keys
from gateway.store.secrets.vault import open_vault


@asynccontextmanager
async def open_blobs(settings: Settings) -> AsyncIterator[BlobStore]:
    """Where recordings lie: a bucket where one is set, else a folder."""
    if settings.s3_url and settings.s3_access_key is not None and settings.s3_secret_key is not None:
        keys = settings.s3_access_key, settings.s3_secret_key
        async with S3Blobs(settings.s3_url, settings.s3_bucket, settings.s3_region, *keys) as bucket:
            yield bucket
        return
    yield FolderBlobs(settings.data_dir / "recordings", trio.CapacityLimiter(8))


async def open_master_keys(settings: Settings, *, may_create: bool, older: MasterKeys | None = None) -> MasterKeys:
    """The master key: in Vault where that is set, else in its file. Raises BadMasterKey with a sentence."""
    if settings.vault_url and settings.vault_token_file is not None:
        return await open_vault(settings.vault_url, settings.vault_token_file, settings.vault_key, older)
    return load_master_keys(
        settings.master_key_file, settings.data_dir, may_create=may_create,
        credentials_directory=os.environ.get("CREDENTIALS_DIRECTORY"),
    )  # fmt: skip


async def safe_dialer(settings: Settings) -> SafeDialer:
    """The one dialer for addresses that tenants supply: our listeners and our database are forbidden to it."""
    dial = SafeDialer(allowed_private_nets=settings.allowed_private_nets, own={settings.bind, settings.intake_bind})
    if settings.database_url is not None:
        parts = urlsplit(settings.database_url.reveal())
        with suppress(OSError):  # a name that does not resolve now cannot be dialled either
            for found in await trio.socket.getaddrinfo(parts.hostname or "127.0.0.1", parts.port or 5432):
                dial.keep_off(str(found[4][0]), parts.port or 5432)
    return dial
