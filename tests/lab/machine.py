"""One lab: a real Asterisk on loopback, and what a scenario may do there (phones by sipp, actions by AMI).

Owns the processes it starts: sipp's by their own pids, Asterisk by `down`. The truth of a call comes from sipp's own
message logs, never from AMI. Read `scenarios.py` next.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from adapters.asterisk.protocol import Framer, Message, action_ids, encode_action
from tests.lab.sip import Telephone

HERE = Path(__file__).parent
ROOTS = {"22": Path("/opt/asterisk-root"), "16": Path("/opt/asterisk-root-16")}
SUITES = {"22": "forky", "16": "bullseye"}
USER, SECRET = "lab", "lab-secret"
AUDIO = Path("/usr/share/sip-tester/g711a.pcap")
HAS_AUDIO = AUDIO.exists()
"""Without a frame passing through, Asterisk never optimises a pair of Local channels away."""
TRUNK, SECOND_TRUNK = "trunk-0001", "trunk-0002"
TRUNK_ADDRESS = "127.0.0.2"
ADDRESSES = {TRUNK: TRUNK_ADDRESS, SECOND_TRUNK: "127.0.0.3"}
CLIENT = "+375296254070"
PARTY_LIMIT_S = 60.0


def missing() -> str:
    """Why no lab can run here; empty when one can."""
    if os.geteuid() != 0:
        return "the lab needs root"
    if shutil.which("sipp") is None:
        return "the lab needs sipp"
    return "" if (ROOTS["22"] / ".lab-asterisk-done").exists() else "the lab is not installed (tests/lab/install)"


async def script(name: str, version: str, offset: int, *arguments: str, **environment: str) -> str:
    """Runs one of the lab's scripts. Raises RuntimeError with the end of what it said."""
    done = await trio.run_process(
        [str(HERE / name), *arguments], capture_stdout=True, stderr=subprocess.STDOUT, check=False,
        env={
            **os.environ, "ASTERISK_ROOT": str(ROOTS[version]), "ASTERISK_SUITE": SUITES[version],
            "PORT_OFFSET": str(offset), **environment,
        },
    )  # fmt: skip
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise RuntimeError(f"tests/lab/{name}: {text[-1000:]}")
    return text


@dataclass(frozen=True, slots=True)
class SipMessage:
    """One SIP message of a party: epoch seconds, sent or received, its first line and CSeq."""

    at: float
    sent: bool
    text: str


@dataclass
class Party:
    """One sipp process that plays one side of one call."""

    name: str
    process: trio.Process
    log: Path
    errors: Path

    def messages(self) -> list[SipMessage]:
        """Every SIP message so far."""
        found: list[SipMessage] = []
        if not self.log.exists():
            return found
        for line in self.log.read_text("utf-8", "replace").splitlines():
            cells = line.split("\t")
            epochs = [float(cell) for cell in cells[:4] if re.fullmatch(r"\d{9,}\.\d+", cell.strip())]
            if len(cells) >= 6 and epochs:
                cseq = next((cell for cell in cells if cell.startswith("CSeq")), "")
                found.append(SipMessage(epochs[0], "S" in cells, f"{cells[-1].strip()} {cseq}"))
        return found

    def sent(self, pattern: str) -> float | None:
        """When it first sent a message that matches."""
        return next((m.at for m in self.messages() if m.sent and re.match(pattern, m.text)), None)

    def got(self, pattern: str) -> float | None:
        """When it first received a message that matches."""
        return next((m.at for m in self.messages() if not m.sent and re.match(pattern, m.text)), None)


class Manager:
    """A small AMI client for the scenarios: sends actions and waits for events."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._framer = Framer(None)
        self._ids = action_ids()
        self.seen: list[Message] = []
        self._more = trio.Event()

    async def read(self) -> None:
        """Runs until the connection ends."""
        with suppress(trio.BrokenResourceError):  # the PBX died
            while data := await self._stream.receive_some(65536):
                self.seen += self._framer.feed(data)
                self._more.set()
                self._more = trio.Event()

    async def wait(self, since: int = 0, within_s: float = 15.0, **want: str) -> Message:
        """The first message from `since` on whose headers match. Raises trio.TooSlowError."""
        place = since
        with trio.fail_after(within_s):
            while True:
                for message in self.seen[place:]:
                    if all(re.search(pattern, message.get(name, "")) for name, pattern in want.items()):
                        return message
                place = len(self.seen)
                await self._more.wait()

    async def act(self, action: str, **headers: str) -> Message:
        """Sends one action, returns its answer."""
        action_id = next(self._ids)
        since = len(self.seen)
        await self._stream.send_all(encode_action(action, (("ActionID", action_id), *headers.items())))
        return await self.wait(since, ActionID=f"^{re.escape(action_id)}$", Response=".")


@dataclass
class Scene:
    """One scenario under way: its parties, and AMI."""

    lab: "Lab"
    manager: Manager
    folder: Path
    nursery: trio.Nursery
    parties: list[Party] = field(default_factory=list)
    telephones: dict[tuple[str, int], Telephone] = field(default_factory=dict)
    audio: bool = False
    """Whether telephones send sound."""
    since: int = 0
    """Where in the manager's stream this scenario began."""

    async def _party(self, name: str, template: str, address: str, port: int, remote: bool, **values: object) -> Party:
        text = (HERE / "sipp" / f"{template}.xml.in").read_text("utf-8")
        audio = f'<nop><action><exec play_pcap_audio="{AUDIO}"/></action></nop>' if HAS_AUDIO else ""
        for key, value in {"REFER": "", "PLAY": audio, **values}.items():
            text = text.replace(f"@{key}@", str(value))
        assert not re.search(r"@[A-Z_]+@", text), f"{template} has a place that was not filled"
        stem = self.folder / f"{len(self.parties):02d}-{name}"
        stem.with_suffix(".xml").write_text(text, "utf-8")
        log, errors = stem.with_suffix(".short"), stem.with_suffix(".err")
        command = [
            "sipp", "-sf", str(stem.with_suffix(".xml")), "-i", address, "-p", str(port), "-mi", address,
            "-mp", str(30000 + 10 * self.lab.offset + 20 * len(self.parties)), "-m", "1", "-timeout", f"{PARTY_LIMIT_S:.0f}s",
            "-nostdin", "-trace_err", "-error_file", str(errors), "-trace_shortmsg", "-shortmessage_file", str(log),
            *(["-r", "1", f"127.0.0.1:{self.lab.sip_port}"] if remote else []),
        ]  # fmt: skip
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=self.folder, env={**os.environ, "TERM": "dumb"},
        )  # fmt: skip
        party = Party(name, process, log, errors)
        self.parties.append(party)
        return party

    async def phone(self, number: str, *, ring_s: float = 2.0, talk_s: float = 60.0) -> Party:
        """An employee's phone that rings, answers, and hangs up after `talk_s` unless the other side does."""
        return await self._party(
            f"phone{number}", "uas", "127.0.0.1", self.lab.phone_port(number), False,
            RING_MS=int(ring_s * 1000), TALK_MS=int(talk_s * 1000), ME=number,
        )  # fmt: skip

    async def refusing_phone(self, number: str, code: int = 486, reason: str = "Busy Here") -> Party:
        """An employee's phone that refuses."""
        return await self._party(
            f"phone{number}", "uas-refuse", "127.0.0.1", self.lab.phone_port(number), False,
            CODE=code, REASON=reason, RING_MS=300,
        )  # fmt: skip

    async def provider(self, *, ring_s: float = 1.5, talk_s: float = 60.0) -> Party:
        """The client at the other end of the trunk, called by us."""
        return await self._party(
            "provider", "uas", TRUNK_ADDRESS, self.lab.trunk_port, False,
            RING_MS=int(ring_s * 1000), TALK_MS=int(talk_s * 1000), ME="provider",
        )  # fmt: skip

    async def refusing_provider(self, code: int, reason: str) -> Party:
        """The trunk's far end that refuses."""
        return await self._party(
            "provider", "uas-refuse", TRUNK_ADDRESS, self.lab.trunk_port, False, CODE=code, REASON=reason, RING_MS=400
        )

    async def client(self, number: str, company: str, *, talk_s: float = 3.0, gives_up_s: float | None = None) -> Party:
        """A client who calls the company, and hangs up after the talk or before an answer."""
        return await self._caller(
            "client", TRUNK_ADDRESS, self.lab.trunk_port + 100, number, company, talk_s, gives_up_s
        )

    async def employee(self, number: str, to: str, *, talk_s: float = 3.0, gives_up_s: float | None = None) -> Party:
        """An employee who calls."""
        port = self.lab.phone_port(number) + 100
        return await self._caller(f"phone{number}", "127.0.0.1", port, number, to, talk_s, gives_up_s)

    async def _caller(
        self, name: str, address: str, port: int, number: str, to: str, talk_s: float, gives_up_s: float | None
    ) -> Party:
        await trio.sleep(0.4)  # until those who are called listen
        who = {"FROM": number, "FROMNAME": number, "TO": to}
        if gives_up_s is not None:
            return await self._party(name, "uac-cancel", address, port, True, **who, RING_MS=int(gives_up_s * 1000))
        return await self._party(name, "uac", address, port, True, **who, TALK_MS=int(talk_s * 1000))

    def smart_redirect(self, number: str, port: str = "") -> Telephone:
        """An employee's telephone that does what the script says."""
        return self._telephone(number, "127.0.0.1", self.lab.phone_port(port or number))

    def outside(self, trunk: str = TRUNK, number: str = CLIENT) -> Telephone:
        """The far end of a trunk: a client, and whoever we call there."""
        return self._telephone(number, ADDRESSES[trunk], self.lab.trunk_port)

    def _telephone(self, number: str, address: str, port: int) -> Telephone:
        telephone = self.telephones.get((address, port))
        if telephone is None:
            telephone = Telephone(number, number, address, port, self.lab.sip_port, self.audio)
            self.telephones[address, port] = telephone
            self.nursery.start_soon(telephone.serve)
        return telephone

    async def quiet(self, within_s: float = 15.0) -> None:
        """Waits until the PBX has no channel. Raises trio.TooSlowError."""
        with trio.fail_after(within_s):
            while True:
                since = len(self.manager.seen)
                await self.manager.act("CoreShowChannels")
                end = await self.manager.wait(since, Event="^CoreShowChannelsComplete$")
                if end.get("ListItems") == "0":
                    await trio.sleep(0.3)  # for the last BYE, which would otherwise come to the next scenario's phones
                    return
                await trio.sleep(0.1)

    async def event(self, **want: str) -> Message:
        """The first AMI message of this scenario whose headers match."""
        return await self.manager.wait(self.since, 15.0, **want)

    async def finish(self) -> None:
        """Waits for every party. Raises AssertionError with what sipp says where one failed."""
        for party in self.parties:
            with trio.move_on_after(PARTY_LIMIT_S) as patience:
                code = await party.process.wait()
            if patience.cancelled_caught:
                party.process.kill()
                raise AssertionError(f"{party.name} did not end")
            if code:
                said = party.errors.read_text("utf-8", "replace")[-400:] if party.errors.exists() else ""
                raise AssertionError(f"{party.name}: sipp exit {code}: {said}")


@dataclass
class Lab:
    """A running Asterisk."""

    version: str
    offset: int
    user: str = USER

    @property
    def ami_port(self) -> int:
        """Where AMI listens on loopback."""
        return 5038 + self.offset

    @property
    def sip_port(self) -> int:
        """Where Asterisk listens for SIP."""
        return 5060 + self.offset

    @property
    def trunk_port(self) -> int:
        """Where the provider is."""
        return 15160 + self.offset

    def phone_port(self, number: str) -> int:
        """Where an employee's phone is."""
        return 15000 + int(number) + self.offset

    async def crash(self) -> None:
        """The PBX dies at once: no channel is hung up, no connection closed properly."""
        folder = ROOTS[self.version] / f"srv/lab-{self.offset}/run"
        os.kill(int((folder / "asterisk.pid").read_text()), signal.SIGKILL)

    async def start(self) -> None:
        """Starts it, again or for the first time."""
        await script("up", self.version, self.offset, str(self.offset))

    @asynccontextmanager
    async def scene(self) -> AsyncIterator[Scene]:
        """One scenario. Parties that are left are ended by their own pids."""
        folder = Path(tempfile.mkdtemp(prefix="lab-"))
        telephones: dict[tuple[str, int], Telephone] = {}
        stream = await trio.open_tcp_stream("127.0.0.1", self.ami_port)
        try:
            async with trio.open_nursery() as nursery:
                manager = Manager(stream)
                nursery.start_soon(manager.read)
                await manager.act("Login", Username=USER, Secret=SECRET, Events="on")
                scene = Scene(self, manager, folder, nursery, telephones=telephones, since=len(manager.seen))
                try:
                    yield scene
                    await scene.finish()
                except BaseException:
                    with trio.move_on_after(2, shield=True):  # the next scenario finds a quiet PBX
                        await manager.act("Hangup", Channel="/.*/")
                    raise
                finally:
                    for party in scene.parties:
                        if party.process.poll() is None:
                            party.process.kill()
                            with trio.CancelScope(shield=True):
                                await party.process.wait()
                nursery.cancel_scope.cancel()
        finally:
            for telephone in telephones.values():
                telephone.close()
            await trio.aclose_forcefully(stream)
            shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running_lab(version: str = "22", offset: int = 200, user: str = USER) -> AsyncIterator[Lab]:
    """An Asterisk of this version, started and stopped."""
    lab = Lab(version, offset, user)
    await lab.start()
    try:
        yield lab
    finally:
        with trio.CancelScope(shield=True):
            await script("down", version, offset, str(offset))
