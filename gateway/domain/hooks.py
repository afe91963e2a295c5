"""The address of an integration that its outside system calls: `PUBLIC_URL/hooks/KIND/HOOK_ID` (contract 10, 21)."""

from gateway.domain.ids import IntegrationKey, kind_of
from gateway.domain.secret import Secret


def hook_url(public_url: str, key: IntegrationKey, hook_id: Secret) -> Secret:
    """The whole address. Its last part is what makes it this integration's, so it is a secret."""
    return Secret(f"{public_url.rstrip('/')}/hooks/{kind_of(key)}/{hook_id.reveal()}")
