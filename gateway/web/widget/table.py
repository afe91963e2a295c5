"""All addresses of the web widget."""

from gateway.web.http.routes import Address
from gateway.web.widget.deps import WidgetDeps
from gateway.web.widget.events import event_addresses
from gateway.web.widget.files import file_addresses
from gateway.web.widget.frame import frame_addresses
from gateway.web.widget.shown import Names
from gateway.web.widget.wire import wire_addresses


def widget_addresses(deps: WidgetDeps) -> list[Address]:
    """For the people's listener."""
    names = Names(deps)
    return [*frame_addresses(deps), *wire_addresses(deps, names), *file_addresses(deps), *event_addresses(deps, names)]
