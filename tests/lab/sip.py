"""Telephones in Python: SIP user agents on loopback whose every step the script decides, and what each saw with its time.

    Telephone            a socket with an address and a number; rings, calls
    Leg                  one call of it: ring, answer, refuse, hang up, hold, dial digits, transfer

sipp plays the plain calls; these play what a fixed script cannot: a second call at the same phone, a transfer whose
`Replaces` names another call, steps that wait for one another. Times are epoch seconds of the datagram. Only what
Asterisk on the same machine needs: UDP, no authentication, no retransmission of requests.
Over 400 lines: a telephone and its calls share one state.
"""

import re
import socket
import time
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import quote

import trio

_serial = count(1)
_FINAL = re.compile(r"SIP/2.0 ([2-6]\d\d)")
SILENCE = b"\xd5" * 160
STEP_S = 20.0
"""How long a step waits for the other side."""


class SipError(Exception):
    """The other side did not do what the script expects."""


@dataclass
class Packet:
    """A SIP message taken apart."""

    start: str
    headers: list[tuple[str, str]]
    body: str

    @classmethod
    def parse(cls, data: bytes) -> "Packet":
        """Reads one datagram."""
        head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(start, [(name.strip().casefold(), value.strip()) for name, _, value in pairs], body)

    def get(self, name: str) -> str:
        """The first header of that name."""
        return next((value for header, value in self.headers if header == name), "")

    def all(self, name: str) -> list[str]:
        """Every header of that name."""
        return [value for header, value in self.headers if header == name]

    @property
    def method(self) -> str:
        """Of a request; of an answer, that of the request."""
        return self.get("cseq").partition(" ")[2]

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.start[8:11]) if self.start.startswith("SIP/2.0 ") else 0


@dataclass(eq=False)
class Leg:
    """One call at one telephone. The stamps are None until it happened."""

    phone: "Telephone"
    call_id: str
    tag: str
    local: str
    remote: str
    target: str
    invite: Packet | None = None
    """What called us; None where we call."""
    asked_at: float = 0.0
    rang_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    """When either side hung up, or it was refused."""
    ended_by_me: bool = False
    status: int = 0
    """The final answer to the INVITE."""
    cseq: int = 1
    audio: bool = False
    changed: trio.Event = field(default_factory=trio.Event)
    media: socket.socket | None = None
    media_to: tuple[str, int] | None = None
    notified: list[str] = field(default_factory=list)
    branch: str = ""
    held: bool = False

    def note(self) -> None:
        """Wakes whoever waits for a change."""
        self.changed.set()
        self.changed = trio.Event()

    async def _until(self, what: str, within_s: float = STEP_S) -> None:
        with trio.move_on_after(within_s):
            while not getattr(self, what):
                if what != "ended_at" and self.ended_at is not None:
                    raise SipError(f"{self.phone.name}: it ended (status {self.status}) before {what}")
                await self.changed.wait()
            return
        raise SipError(f"{self.phone.name}: no {what} within {within_s:g} s")

    async def rings(self) -> "Leg":
        """Waits for the ringing tone at the far end."""
        await self._until("rang_at")
        return self

    async def answers(self, within_s: float = STEP_S) -> "Leg":
        """Waits for the far end to answer."""
        await self._until("answered_at", within_s)
        return self

    async def ends(self, within_s: float = 40.0) -> "Leg":
        """Waits for the end, whoever makes it."""
        await self._until("ended_at", within_s)
        return self

    # The called side

    def ring(self) -> None:
        """Says that it rings."""
        self._reply(180, "Ringing")
        self.rang_at = self.rang_at or time.time()

    def progress(self) -> None:
        """Early media: sound without an answer."""
        self._reply(183, "Session Progress", self._sdp())
        self.rang_at = self.rang_at or time.time()

    def answer(self) -> None:
        """Picks up."""
        self._reply(200, "OK", self._sdp())
        self.answered_at = time.time()
        self._start_audio()

    def refuse(self, code: int = 486, reason: str = "Busy Here") -> None:
        """Says no."""
        self._reply(code, reason)
        self.status, self.ended_at, self.ended_by_me = code, time.time(), True
        self.note()

    def redirect(self, number: str) -> None:
        """Forwards by the phone itself: 302."""
        self._reply(302, "Moved Temporarily", contact=f"<sip:{number}@127.0.0.1:{self.phone.sip_port}>")
        self.status, self.ended_at = 302, time.time()

    def _reply(self, code: int, reason: str, body: str = "", contact: str = "") -> None:
        assert self.invite is not None
        self.phone.respond(self.invite, code, reason, self.tag, body, contact)

    # Both sides

    def hang_up(self) -> None:
        """Ends it: BYE, or CANCEL before an answer."""
        if self.ended_at is not None:
            raise SipError(f"{self.phone.name}: the other side had hung up already")
        self.ended_at, self.ended_by_me = time.time(), True
        if self.answered_at is not None:
            self._request("BYE")
        else:
            assert self.invite is None, "the called side refuses instead"
            self.remote = self.remote.partition(";tag=")[0]
            self._request("CANCEL", cseq=1, branch=self.branch)
        self.note()

    def hold(self, held: bool = True) -> None:
        """Puts the other side on hold, or takes it back."""
        self.held = held
        self._request("INVITE", body=self._sdp("sendonly" if held else "sendrecv"))

    async def dial(self, digits: str) -> None:
        """Presses keys."""
        for digit in digits:
            self._request("INFO", body=f"Signal={digit}\r\nDuration=160\r\n", kind="application/dtmf-relay")
            await trio.sleep(0.25)

    def transfer(self, number: str, replaces: "Leg | None" = None) -> None:
        """REFER: to a number, or to the far end of another call of ours."""
        to = f"sip:{number}@127.0.0.1:{self.phone.sip_port}"
        if replaces is not None:
            tags = re.findall(r";tag=([^;>\s]+)", replaces.remote)
            to += "?Replaces=" + quote(f"{replaces.call_id};to-tag={tags[0]};from-tag={replaces.tag}", safe="")
        own = f"<sip:{self.phone.number}@{self.phone.address}>"
        self._request("REFER", headers=(("Refer-To", f"<{to}>"), ("Referred-By", own)))

    async def transferred(self, within_s: float = STEP_S) -> str:
        """Waits for the last word on a transfer: the status line of the final NOTIFY, or "BYE"."""
        with trio.move_on_after(within_s):
            while True:
                final = next((text for text in self.notified if _FINAL.match(text)), None)
                if final is not None:
                    return final
                if self.ended_at is not None:
                    return "BYE"
                await self.changed.wait()
        raise SipError(f"{self.phone.name}: no word on the transfer")

    async def gives_over(self, asking: "Leg") -> None:
        """After an attended transfer: waits for the good news, then hangs up what the PBX has left us, as phones do."""
        word = await self.transferred()
        if not word.startswith(("SIP/2.0 2", "BYE")):
            raise SipError(f"{self.phone.name}: the transfer failed: {word}")
        await trio.sleep(0.1)
        for leg in (self, asking):
            if leg.ended_at is None:
                leg.hang_up()

    def _sdp(self, direction: str = "sendrecv") -> str:
        if self.media is None:
            self.media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.media.bind((self.phone.address, 0))
        address, port = self.media.getsockname()
        return (
            f"v=0\r\no=lab 1 {next(_serial)} IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na={direction}\r\n"
        )

    def _request(
        self, method: str, *, body: str = "", kind: str = "application/sdp", cseq: int = 0, branch: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:  # fmt: skip
        if not cseq:
            self.cseq += 1
            cseq = self.cseq
        self.phone.send([
            f"{method} {self.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.phone.address}:{self.phone.port};branch={branch or f'z9hG4bK{next(_serial)}x{time.time_ns()}'}",
            f"From: {self.local}",
            f"To: {self.remote}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:{self.phone.number}@{self.phone.address}:{self.phone.port}>",
            "Max-Forwards: 70",
            "Allow: INVITE, ACK, CANCEL, BYE, UPDATE, REFER, NOTIFY, INFO",
            *(f"{name}: {value}" for name, value in headers),
            *([f"Content-Type: {kind}"] if body else []),
        ], body)  # fmt: skip

    def received(self, packet: Packet) -> None:
        """A message of this call."""
        if packet.body and (port := re.search(r"m=audio (\d+)", packet.body)):
            self.media_to = ("127.0.0.1", int(port.group(1)))
        if packet.status:
            self._heard_answer(packet)
        else:
            self._heard_request(packet)
        self.note()

    def _heard_answer(self, packet: Packet) -> None:
        if packet.method == "INVITE" and packet.status >= 200:
            if contact := re.search(r"<([^>]+)>", packet.get("contact")):
                self.target = contact.group(1)
            if self.answered_at is None and self.invite is None:
                self.remote = packet.get("to")
            same = self.branch if packet.status >= 300 else ""
            self._request("ACK", cseq=int(packet.get("cseq").split()[0]), branch=same)
            if self.invite is not None or self.status:
                return
            self.status = packet.status
            if packet.status < 300:
                self.answered_at = time.time()
                self._start_audio()
            else:
                self.ended_at = self.ended_at or time.time()
        elif packet.method == "INVITE" and packet.status > 100:
            if self.answered_at is None and self.invite is None:
                self.remote = packet.get("to")
            self.rang_at = self.rang_at or time.time()

    def _heard_request(self, packet: Packet) -> None:
        method = packet.start.split(" ")[0]
        if method == "ACK":
            return
        if method == "INVITE":
            if self.invite is not None and packet.get("cseq") == self.invite.get("cseq"):
                return  # a repeat
            self.phone.respond(packet, 200, "OK", self.tag, self._sdp("sendonly" if self.held else "sendrecv"))
            return
        self.phone.respond(packet, 200 if method != "REFER" else 603, "OK", self.tag)
        if method == "CANCEL":
            self.phone.respond(self.invite or packet, 487, "Request Terminated", self.tag)
        if method in ("BYE", "CANCEL"):
            self.ended_at = self.ended_at or time.time()
        if method == "NOTIFY":
            self.notified.append(packet.body)

    def _start_audio(self) -> None:
        if self.audio:
            assert self.phone.nursery is not None, "it is switched on"
            self.phone.nursery.start_soon(self._play)
        self.note()

    async def _play(self) -> None:
        """Sends silence as a telephone does, until the call ends."""
        began = trio.current_time()
        for number in count():
            if self.ended_at is not None or self.media is None:
                return
            if self.media_to is not None:
                head = bytes([0x80, 8]) + (number & 0xFFFF).to_bytes(2, "big") + (number * 160).to_bytes(4, "big")
                self.media.sendto(head + b"labs" + SILENCE, self.media_to)
            await trio.sleep_until(began + 0.02 * (number + 1))


@dataclass(eq=False)
class Telephone:
    """A user agent. Calls that come wait in `incoming` until the script takes them."""

    name: str
    number: str
    address: str
    port: int
    sip_port: int
    audio: bool = False
    legs: dict[str, Leg] = field(default_factory=dict)
    nursery: trio.Nursery | None = None

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, self.port))
        self._socket.setblocking(False)
        self._sender, self._incoming = trio.open_memory_channel[Leg](100)

    async def serve(self) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            await self._listen()

    def close(self) -> None:
        """Frees the sockets."""
        self._socket.close()
        for leg in self.legs.values():
            if leg.media is not None:
                leg.media.close()

    async def _listen(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, ConnectionRefusedError):
                continue
            packet = Packet.parse(data)
            leg = self.legs.get(packet.get("call-id"))
            if leg is not None:
                leg.received(packet)
            elif packet.start.startswith("INVITE"):
                self._called(packet)
            elif not packet.status and packet.method != "ACK":
                self.respond(packet, 200, "OK", "none")

    def _called(self, packet: Packet) -> None:
        tag = f"t{next(_serial)}"
        contact = re.search(r"<([^>]+)>", packet.get("contact"))
        leg = Leg(
            self, packet.get("call-id"), tag, f"{packet.get('to')};tag={tag}", packet.get("from"),
            contact.group(1) if contact else "", packet, time.time(), audio=self.audio, cseq=100,
        )  # fmt: skip
        self.legs[leg.call_id] = leg
        if port := re.search(r"m=audio (\d+)", packet.body):
            leg.media_to = ("127.0.0.1", int(port.group(1)))
        self.respond(packet, 100, "Trying", tag)
        self._sender.send_nowait(leg)

    def call(self, to: str, *, number: str = "", name: str = "", private: bool = False) -> Leg:
        """Calls, as `number` where that is not our own."""
        tag, call_id = f"t{next(_serial)}", f"{next(_serial)}-{time.time_ns()}@lab"
        me = "anonymous" if private else number or self.number
        host = "anonymous.invalid" if private else f"{self.address}:{self.port}"
        leg = Leg(
            self, call_id, tag, f'"{name or me}" <sip:{me}@{host}>;tag={tag}', f"<sip:{to}@127.0.0.1:{self.sip_port}>",
            f"sip:{to}@127.0.0.1:{self.sip_port}", asked_at=time.time(), audio=self.audio,
            branch=f"z9hG4bK{next(_serial)}i{time.time_ns()}",
        )  # fmt: skip
        self.legs[call_id] = leg
        hidden = (("Privacy", "id"),)
        leg._request("INVITE", body=leg._sdp(), cseq=1, branch=leg.branch, headers=hidden if private else ())
        return leg

    async def called(self, within_s: float = STEP_S) -> Leg:
        """The next call that comes, before it is told that it rings."""
        with trio.move_on_after(within_s):
            return await self._incoming.receive()
        raise SipError(f"{self.name}: nobody called within {within_s:g} s")

    async def rings(self, within_s: float = STEP_S) -> Leg:
        """The next call that comes, ringing."""
        leg = await self.called(within_s)
        leg.ring()
        return leg

    def respond(self, packet: Packet, code: int, reason: str, tag: str, body: str = "", contact: str = "") -> None:
        """Answers a request."""
        to = packet.get("to")
        if ";tag=" not in to and code > 100:
            to += f";tag={tag}"
        self.send([
            f"SIP/2.0 {code} {reason}",
            *(f"Via: {via}" for via in packet.all("via")),
            f"From: {packet.get('from')}",
            f"To: {to}",
            f"Call-ID: {packet.get('call-id')}",
            f"CSeq: {packet.get('cseq')}",
            f"Contact: {contact or f'<sip:{self.number}@{self.address}:{self.port}>'}",
            "Allow: INVITE, ACK, CANCEL, BYE, UPDATE, REFER, NOTIFY, INFO",
            *(["Content-Type: application/sdp"] if body else []),
        ], body)  # fmt: skip

    def send(self, lines: list[str], body: str) -> None:
        """One datagram to the PBX."""
        text = "\r\n".join([*lines, f"Content-Length: {len(body.encode())}"]) + "\r\n\r\n" + body
        self._socket.sendto(text.encode(), ("127.0.0.1", self.sip_port))
