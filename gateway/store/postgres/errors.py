"""What the store raises besides `gateway.domain.errors.Unavailable`.

None of these carries the server's DETAIL or a value from a row: that text can hold a secret or another tenant's data.
Constraint names and SQLSTATE codes are ours and safe. `pool.py` makes them; read it next.
"""

from gateway.domain.errors import GatewayError, NeedsAttention, Unavailable


class StoreError(GatewayError):
    """The database could not carry out the request."""


class Conflict(StoreError):
    """Something with the same key exists already."""

    problem_code = "CONFLICT"

    def __init__(self, constraint: str, *, person: str | None = None) -> None:
        super().__init__(f"conflict with {constraint}" if constraint else "", person=person)
        self.constraint = constraint


class BadData(StoreError):
    """A value does not fit the database."""

    problem_code = "VALIDATION_ERROR"

    def __init__(self, detail: str = "", *, constraint: str = "", person: str | None = None) -> None:
        super().__init__(detail, person=person)
        self.constraint = constraint


class QueryFailed(StoreError):
    """A statement of ours is wrong. This is a bug."""

    def __init__(self, detail: str = "", *, code: str = "", person: str | None = None) -> None:
        super().__init__(detail, person=person)
        self.code = code
        """The SQLSTATE."""


class Busy(Unavailable):
    """Someone else holds a lock on it; it will be tried again."""

    problem_code = "UNAVAILABLE"


class NotMigrated(NeedsAttention):
    """The database is not prepared for this version. Run `gateway migrate`."""


class TooNew(NeedsAttention):
    """The database belongs to a newer version of the gateway. Install that version."""


class ChangedMigration(NeedsAttention):
    """A migration was changed after it had been applied. Install the version that this database was made with."""


class OldGatewayRuns(NeedsAttention):
    """A gateway of an older version still runs on this database. Stop it first."""


class UnsafeRole(NeedsAttention):
    """The database role would see every tenant's rows. Make it neither owner nor superuser and without BYPASSRLS."""


class NoServer(NeedsAttention):
    """The embedded PostgreSQL cannot be started."""


class FolderInUse(NeedsAttention):
    """GATEWAY_DATA_DIR cannot be used by this gateway. Give each running gateway a folder of its own."""


class BadMasterKey(NeedsAttention):
    """The master key cannot be read. See MASTER_KEY_FILE; `gateway keys new` makes a key."""


class Unsealable(StoreError):
    """A stored secret cannot be opened with the keys at hand."""


_BLAMES_DATA = frozenset({"21", "22", "23", "44", "54", "P0", "XX"})
"""Classes of SQLSTATE by which a server refuses the values, not the statement."""


def blames_data(error: Exception) -> bool:
    """Whether the rows handed over are at fault: others would be taken. Of a statement that is wrong, or a schema that does
    not fit it, no row is guilty, however often it fails."""
    if isinstance(error, QueryFailed):
        return error.code[:2] in _BLAMES_DATA
    return isinstance(error, BadData | Conflict) or not isinstance(error, GatewayError)
