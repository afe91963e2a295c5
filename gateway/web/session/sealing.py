"""Sealing what belongs to a person and to no company in view: under the master key, bound to its place.

A company's own values are sealed with its data key (`gateway/store/secrets/seal.py`). An operator has no company, and neither has
a page of one's own account. Read `second_factor.py` and `flash.py` for what is sealed so.
"""

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.secrets.seal import DataKey, MasterKeys


def seal_personal(master: MasterKeys, secret: Secret, place: str) -> str:
    """The text to store at this place, and at no other."""
    return master.wrap(TenantId(place), DataKey(1, secret.reveal().encode()))


def open_personal(master: MasterKeys, sealed: str, place: str) -> Secret:
    """Raises Unsealable for anything that was not sealed for this very place."""
    return Secret(master.unwrap(TenantId(place), sealed).key.decode())
