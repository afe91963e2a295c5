"""All addresses of softphones in outside systems' pages."""

from gateway.web.frames.deps import FrameDeps
from gateway.web.frames.documents import document_addresses
from gateway.web.frames.session import session_addresses
from gateway.web.http.routes import Address


def frame_addresses(deps: FrameDeps) -> list[Address]:
    """For the people's listener."""
    return [*document_addresses(deps), *session_addresses(deps)]
