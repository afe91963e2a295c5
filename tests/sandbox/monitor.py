"""The web server of a PBX that keeps recordings: `/rec-LINKEDID.wav` of every call that was talked in.

Owns no files: a recording is made when it is fetched, as long as the talk was. It asks for the user and password it was
made with. Read `tests/sound.py` for what is heard.
"""

import base64
from collections import OrderedDict

from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.plays import Truth
from tests.sandbox.web import Request, Response, Site
from tests.sound import dialogue, wav

KEEP = 5000
"""Calls whose recording can still be fetched."""


class Monitor:
    """Recordings of one PBX, from the moment a call has ended."""

    def __init__(self, pbx: SimulatedPbx, user: str, password: str) -> None:
        self._talks: OrderedDict[str, float] = OrderedDict()
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.site = Site({("GET", "/{file}"): self._file}, _nothing)
        pbx.records = True
        pbx.finished.append(self._ended)

    @property
    def template(self) -> str:
        """For the PBX's `recording_url`."""
        return f"{self.site.base}/{{file}}"

    def _ended(self, call: Truth) -> None:
        self._talks[f"rec-{call['linkedid']}.wav"] = call["talk_s"] or 0.0
        while len(self._talks) > KEEP:
            self._talks.popitem(last=False)

    async def _file(self, request: Request) -> Response:
        if request.headers.get("authorization") != self._authorization:
            return Response(401, b"", "text/plain", (("WWW-Authenticate", 'Basic realm="monitor"'),))
        talked_s = self._talks.get(request.parts["file"])
        if talked_s is None:
            return await _nothing(request)
        return Response(200, wav(body=dialogue(max(talked_s, 1.0))), "audio/wav")


async def _nothing(request: Request) -> Response:
    return Response(404, b"", "text/plain")
