"""The addresses of an integration: the one that its outside system calls, `PUBLIC_URL/hooks/KIND/HOOK_ID` (contract 10, 21), and the one of
its softphone, `PUBLIC_URL/frames/KIND/HOOK_ID` (27)."""

from gateway.domain.ids import IntegrationKey, kind_of
from gateway.domain.secret import Secret


def hook_url(public_url: str, key: IntegrationKey, hook_id: Secret) -> Secret:
    """The whole address. Its last part is what makes it this integration's, so it is a secret."""
    return Secret(f"{public_url.rstrip('/')}/hooks/{kind_of(key)}/{hook_id.reveal()}")


def frame_url(public_url: str, key: IntegrationKey, hook_id: Secret) -> Secret:
    """The address of the softphone in the outside system's pages."""
    return Secret(f"{public_url.rstrip('/')}/frames/{kind_of(key)}/{hook_id.reveal()}")
