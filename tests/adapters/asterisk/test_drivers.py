"""Channel drivers and set-ups that differ from PJSIP's: first states, late numbers, names, ports, robots, codes, prefixes.

Over 400 lines: one short stream a case.
"""

from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.asterisk.calls import CallTracker
from adapters.asterisk.channels import MOST_UNLISTED, Channel, dialled_number
from gateway.domain.configuration import Phone
from gateway.domain.events import CallAnswered, CallEnded, Direction, HungUpBy, Result
from tests.adapters.asterisk.script import DIALING, DOWN, OFFHOOK, PRERING, RING, RINGING, RSRVD, UP, Leg, Script

CLIENT, CLIENT_AS_DIALLED, DID = "+375291112233", "80291112233", "375172000001"
OUTGOING, INCOMING, INTERNAL = Direction.OUTGOING, Direction.INCOMING, Direction.INTERNAL
AUTHOR = datetime(2026, 11, 21, tzinfo=UTC)


def script(*trunks: str, phones: tuple[Phone, ...] = (), country: str = "BY", dial_prefix: str = "") -> Script:
    return Script(CallTracker(trunks=trunks or ("provider",), phones=phones, country=country, dial_prefix=dial_prefix))


def words(ended: CallEnded) -> tuple[object, ...]:
    return ended.direction, ended.caller, ended.called, ended.trunk, ended.extension, ended.result


def dial_out(it: Script, caller: Leg, trunk: str, string: str, first: str = DOWN) -> Leg:
    """The PBX dials a line, which rings."""
    line = it.new(trunk, first, of=caller)
    it.dial(caller, line, string)
    it.to(line, RINGING)
    return line


# A channel that calls in may begin in any state that is not yet a call


@pytest.mark.parametrize(
    ("phone", "line", "first"),
    [
        ("SIP/101-00000001", "SIP/provider-00000002", DOWN),
        ("IAX2/101-4021", "IAX2/provider-11734", RING),
        ("MGCP/aaln/1@desk-1", "SIP/provider-00000002", DOWN),
        ("Skinny/101@desk-1", "SIP/provider-00000002", DOWN),
        ("Skinny/101@desk-1", "SIP/provider-00000002", OFFHOOK),
        ("SCCP/101-00000001", "OOH323/provider-2", DOWN),
        ("USTM/101@desk-0x7f12", "Mobile/provider-1a2b", DOWN),
        ("DAHDI/7-1", "DAHDI/i1/80291112233-2", RSRVD),
    ],
)
def test_a_desk_phone_calls_out_and_gets_a_call(phone: str, line: str, first: str) -> None:
    trunk = "i1" if "i1" in line else "provider"
    it = script(trunk)
    caller = it.new(phone, first, "101")
    if first != RING:
        it.to(caller, RING, CLIENT_AS_DIALLED)
    else:
        caller.exten = CLIENT_AS_DIALLED
    out = dial_out(it, caller, line, f"{trunk}/{CLIENT_AS_DIALLED}", RSRVD if first == RSRVD else DOWN)
    it.talk(caller, out)
    it.hang_up(caller, out)
    assert words(it.end) == (OUTGOING, "101", CLIENT, trunk, "101", Result.ANSWERED)
    assert (it.end.rang, it.end.hung_up_by) == ((), HungUpBy.CALLER)

    it = script(trunk)
    client = it.new(line, first, CLIENT_AS_DIALLED, DID)
    if first != RING:
        it.to(client, RING)
    rung = it.new(phone, RSRVD if first == RSRVD else DOWN, "101", of=client)
    it.dial(client, rung, phone.partition("/")[2].rpartition("-")[0])
    it.to(rung, RINGING)
    it.talk(client, rung)
    it.hang_up(client, rung)
    assert words(it.end) == (INCOMING, CLIENT, "+375172000001", trunk, "101", Result.ANSWERED)
    assert [(ring.direction, ring.caller, ring.extensions) for ring in it.rings] == [(INCOMING, CLIENT, ("101",))]


def test_held_extensions_in_a_queue_of_chan_sip() -> None:
    it = script()
    client = it.new("SIP/provider-1", DOWN, CLIENT, DID)
    it.to(client, RING)
    it.to(client, UP)
    it.say("QueueCallerJoin", **client.headers(), Queue="700")
    first, second = (it.new(f"SIP/{number}-{number}", DOWN, number, of=client) for number in ("101", "102"))
    for leg in (first, second):
        it.dial(client, leg, leg.caller)
        it.to(leg, RINGING)
    it.talk(client, first)
    it.gone(second, cause="26")
    it.say("BridgeLeave", **client.headers(), BridgeUniqueid="b1")
    it.say("BridgeEnter", **client.headers(), BridgeUniqueid="hold", BridgeTechnology="holding_bridge")
    it.wait(5)
    it.say("BridgeEnter", **client.headers(), BridgeUniqueid="b1", BridgeTechnology="simple_bridge")
    it.hang_up(first, client)
    ended = it.end
    assert words(ended) == (INCOMING, CLIENT, "+375172000001", "provider", "101", Result.ANSWERED)
    assert (ended.rang, ended.queue, ended.hung_up_by) == (("101", "102"), "700", HungUpBy.CALLEE)


@pytest.mark.parametrize(
    ("name", "state"),
    [("SIP/101-1", DOWN), ("DAHDI/7-1", RSRVD), ("MGCP/aaln/1@gw-1", OFFHOOK), ("DAHDI/33-1", PRERING)],
)
def test_what_never_begins_is_no_call(name: str, state: str) -> None:
    it = script("DAHDI/33")
    it.gone(it.new(name, state, "112", "s"))
    assert it.ends == []
    assert [note.code for note in it.tracker.ignored] == ["not_begun"]


def test_who_dials_has_called_in_though_its_state_was_not_reported() -> None:
    it = script()
    client = it.new("SIP/provider-1", DOWN, CLIENT, DID)
    rung = it.new("SIP/101-2", DOWN, "101", of=client)
    it.dial(client, rung, "101")
    it.to(rung, RINGING)
    it.hang_up(client, rung, cause="0")
    assert words(it.end) == (INCOMING, CLIENT, "+375172000001", "provider", None, Result.MISSED)


@pytest.mark.parametrize(
    "states", [(OFFHOOK, DIALING), (OFFHOOK, DIALING, RING), (DIALING, RING), (UP,), (DIALING, UP)]
)
@pytest.mark.parametrize("phone", ["SCCP/101-00000001", "DAHDI/5-1"])
def test_a_phone_that_reports_other_states_before_it_dials_has_called_in(phone: str, states: tuple[str, ...]) -> None:
    it = script()
    caller = it.new(phone, DOWN, "101")
    for state in states:
        it.to(caller, state, CLIENT_AS_DIALLED)
    line = dial_out(it, caller, "SIP/provider-2", f"provider/{CLIENT_AS_DIALLED}")
    it.talk(caller, line)
    it.hang_up(line, caller)
    assert words(it.end) == (OUTGOING, "101", CLIENT, "provider", "101", Result.ANSWERED)
    assert (it.end.rang, it.end.hung_up_by) == ((), HungUpBy.CALLEE)

    it = script()
    caller = it.new(phone, DOWN, "101")
    for state in states:
        it.to(caller, state, "102")
    rung = it.new("SIP/102-2", DOWN, "102", of=caller)
    it.dial(caller, rung, "102")
    it.to(rung, RINGING)
    it.hang_up(caller, rung, cause="0")
    assert words(it.end) == (INTERNAL, "101", "102", None, None, Result.MISSED)
    assert (it.end.rang, it.end.hung_up_by) == (("102",), HungUpBy.CALLER)


def test_a_caller_who_is_up_at_once() -> None:
    it = script("gw")
    client = it.new("OOH323/gw-1", DOWN, CLIENT, DID)
    it.to(client, UP)
    rung = it.new("SIP/101-2", DOWN, "101", of=client)
    it.dial(client, rung, "101")
    it.to(rung, RINGING)
    it.hang_up(client, rung, cause="0")
    assert words(it.end) == (INCOMING, CLIENT, "+375172000001", "gw", None, Result.MISSED)

    it = script("gw")
    client = it.new("OOH323/gw-1", DOWN, CLIENT, DID)
    it.to(client, UP)
    it.hang_up(client)
    assert words(it.end) == (INCOMING, CLIENT, "+375172000001", "gw", None, Result.MISSED)


def test_what_the_pbx_dials_itself_stays_outgoing() -> None:
    it = script()
    employee = it.new("SIP/101-1", DOWN, CLIENT)
    it.dial(None, employee, "101")
    it.to(employee, RINGING)
    it.to(employee, UP)
    line = dial_out(it, employee, "SIP/provider-2", f"provider/{CLIENT_AS_DIALLED}")
    it.talk(employee, line)
    it.hang_up(line, employee)
    assert words(it.end) == (OUTGOING, "101", CLIENT, "provider", "101", Result.ANSWERED)


# Numbers that come later


@pytest.mark.parametrize("after", ["newchannel", "dial", "ring"])
def test_the_number_of_an_analog_line_comes_late(after: str) -> None:
    it = script("DAHDI/33")
    client = it.new("DAHDI/33-1", RING, "", "s")
    if after == "newchannel":
        it.wait(3)
        it.callerid(client, "80291112233")
    rung = it.new("SIP/101-1", DOWN, "101", of=client)
    it.dial(client, rung, "101")
    if after == "dial":
        it.callerid(client, "80291112233")
    it.to(rung, RINGING)
    if after == "ring":
        it.callerid(client, "80291112233")
    it.talk(client, rung)
    it.hang_up(client, rung)
    assert words(it.end) == (INCOMING, CLIENT, "s", "DAHDI/33", "101", Result.ANSWERED)
    assert it.rings[-1].caller == CLIENT
    assert len(it.rings) == (2 if after == "ring" else 1)


def test_a_hidden_number_stays_hidden() -> None:
    it = script("33")
    client = it.new("DAHDI/33-1", RING, "", "s")
    it.callerid(client, "80291112233", "35 (Presentation Prohibited, Network Number)")
    it.hang_up(client)
    assert (it.end.caller, it.end.trunk) == ("anonymous", "33")


def test_a_number_of_the_pbx_does_not_replace_the_callers() -> None:
    it = script()
    client = it.new("PJSIP/provider-1", RING, CLIENT_AS_DIALLED, DID)
    it.callerid(client, "9080291112233")
    it.hang_up(client)
    assert it.end.caller == CLIENT


def test_the_number_dialled_comes_with_the_first_extension() -> None:
    it = script()
    client = it.new("PJSIP/provider-1", RING, CLIENT, "s")
    it.say("Newexten", **{**client.headers(), "Exten": DID}, Priority="1", Application="Goto")
    it.say("Newexten", **{**client.headers(), "Exten": "600"}, Priority="1", Application="Dial")
    it.hang_up(client)
    assert it.end.called == "+375172000001"


def test_digits_dialled_one_after_the_other() -> None:
    it = script("i1")
    client = it.new("DAHDI/i1/-1", RING, CLIENT, "3751")
    client.exten = DID
    rung = it.new("SIP/101-1", DOWN, "101", of=client)
    it.dial(client, rung, "101")
    it.hang_up(client, rung, cause="0")
    assert (it.end.called, it.end.trunk) == ("+375172000001", "i1")


def test_an_analog_phone_whose_number_comes_late() -> None:
    it = script()
    caller = it.new("DAHDI/12-1", RSRVD, "", "s")
    it.to(caller, RING, "101")
    it.callerid(caller, "113")
    rung = it.new("PJSIP/101-1", DOWN, "101", of=caller)
    it.dial(caller, rung, "101")
    it.to(rung, RINGING)
    it.talk(caller, rung)
    it.hang_up(rung, caller)
    assert words(it.end) == (INTERNAL, "113", "101", None, "101", Result.ANSWERED)


def test_a_port_is_no_extension() -> None:
    it = script()
    client = it.new("PJSIP/provider-1", RING, CLIENT, DID)
    rung = it.new("DAHDI/12-1", RSRVD, "113", of=client)
    it.dial(client, rung, "12")
    it.to(rung, RINGING)
    it.hang_up(client, rung, cause="0")
    assert it.end.rang == ("113",)


# User parameters


@pytest.mark.parametrize(
    "written",
    [
        "+375291112233;cpc=ordinary", "80291112233;npdi;rn=+375290000", "sip:+375291112233@10.0.0.1:5060;user=phone",
        '"Anna" <sip:80291112233;cpc=ordinary@10.0.0.1>', "tel:291112233;phone-context=+375",
    ],
)  # fmt: skip
def test_user_parameters_are_no_part_of_a_number(written: str) -> None:
    it = script()
    client = it.new("PJSIP/provider-1", RING, written, f"+{DID};npdi")
    rung = it.new("PJSIP/101-1", DOWN, "101;cpc=ordinary", of=client)
    it.dial(client, rung, "101/sip:101@10.0.0.5:5060;transport=udp")
    it.to(rung, RINGING)
    it.hang_up(client, rung, cause="0")
    assert words(it.end) == (INCOMING, CLIENT, "+375172000001", "provider", None, Result.MISSED)
    assert it.end.rang == ("101",)

    it = script()
    caller = it.new("PJSIP/101-1", RING, "101", written)
    line = dial_out(it, caller, "PJSIP/provider-1", f"provider/sip:{CLIENT};npdi@10.0.0.1:5060")
    it.talk(caller, line)
    it.hang_up(line, caller)
    assert it.end.called == CLIENT


# The digits before an outside number


@pytest.mark.parametrize(
    ("typed", "given", "prefix", "called"),
    [
        ("989161234567", "89161234567", "", "+79161234567"),
        ("989161234567", "+79161234567", "", "+79161234567"),
        ("989161234567", "989161234567", "", "+79161234567"),
        ("989161234567", "989161234567", "9", "+79161234567"),
        ("7789161234567", "7789161234567", "77", "+79161234567"),
        ("989161234567", "7495#89161234567", "", "+79161234567"),
        ("89161234567", "00789161234567", "", "+79161234567"),
        ("92001234", "2001234", "", "2001234"),
        ("9810375291112233", "810375291112233", "", CLIENT),
        ("*31#89161234567", "89161234567", "", "+79161234567"),
        ("103", "103", "", "103"),
        ("9103", "103", "", "103"),
    ],
)
def test_a_digit_for_an_outside_line(typed: str, given: str, prefix: str, called: str) -> None:
    it = script(country="RU", dial_prefix=prefix)
    caller = it.new("PJSIP/101-1", RING, "101", typed)
    line = dial_out(it, caller, "PJSIP/provider-1", f"{given}@provider")
    it.talk(caller, line)
    it.hang_up(caller, line)
    assert words(it.end) == (OUTGOING, "101", called, "provider", "101", Result.ANSWERED)
    assert [ring.called for ring in it.rings] == [called]


def test_a_call_that_was_ordered_keeps_the_number_of_its_order() -> None:
    it = script(country="RU", dial_prefix="9")
    local = it.new("Local/101@office-1;1", DOWN, "+79161234567")
    it.new("Local/101@office-1;2", RING, "+79161234567", of=local)
    employee = it.new("PJSIP/101-1", DOWN, "101", of=local)
    it.dial(None, employee, "101")
    it.to(employee, RINGING)
    line = dial_out(it, local, "PJSIP/provider-1", "979161234567@provider")
    it.talk(employee, line)
    it.hang_up(line, employee, local)
    assert it.rings[0].called == "+79161234567"


# Robots


@pytest.mark.parametrize(
    "name",
    [
        "UnicastRTP/127.0.0.1:9998-0x7f3a5c02b9d0", "AudioSocket/127.0.0.1:9092-6b1f0c52-9d37", "WebSocket/robot/0x7f3a",
        "ExternalMedia/10.0.0.1:7000-1", "Snoop/1795300000.101-00000001", "MediaOverQuic/10.0.0.1:7000-1",
    ],
)  # fmt: skip
def test_a_robot_is_nobody(name: str) -> None:
    it = script()
    client = it.new("PJSIP/provider-1", RING, CLIENT, DID)
    it.to(client, UP)
    robot = it.new(name, DOWN)
    it.dial(None, robot, "127.0.0.1:9998/c(ulaw)")
    robot.linkedid = client.linkedid
    it.talk(client, robot)
    it.wait(20)
    assert not it.rings
    it.gone(robot)
    rung = it.new("PJSIP/200-1", DOWN, "200", of=client)
    it.dial(client, rung, "200")
    it.to(rung, RINGING)
    it.wait(3.9)
    it.to(rung, UP)
    it.talk(client, rung, bridge="b2")
    it.wait(10)
    it.hang_up(client, rung)
    ended = it.end
    assert words(ended) == (INCOMING, CLIENT, "+375172000001", "provider", "200", Result.ANSWERED)
    assert ended.rang == ("200",)
    assert ended.wait_s == pytest.approx(4.2, abs=0.15)
    assert [event.extension for event in it.events if isinstance(event, CallAnswered)] == ["200"]


def test_a_robot_alone_answers_nothing_though_dial_called_it() -> None:
    """Dial gives the leg that it makes the number that was dialled."""
    it = script()
    client = it.new("PJSIP/provider-1", RING, CLIENT, DID)
    robot = it.new("AudioSocket/127.0.0.1:9092-1", DOWN, DID, of=client)
    it.dial(client, robot, "127.0.0.1:9092/6b1f0c52-9d37-4a08-b0a4-27c1e6f3d918")
    it.to(robot, RINGING)
    it.talk(client, robot)
    it.hang_up(client, robot)
    assert words(it.end) == (INCOMING, CLIENT, "+375172000001", "provider", None, Result.MISSED)
    assert it.end.rang == ()


@pytest.mark.parametrize(("trunks", "state"), [(("modem0",), DIALING), ((), RINGING)])
def test_a_driver_that_is_not_known_carries_people_where_something_shows_it(
    trunks: tuple[str, ...], state: str
) -> None:
    it = script(*trunks)
    client = it.new("NewGsm/modem0-1", DOWN, CLIENT, DID)
    it.to(client, RING)
    rung = it.new("PJSIP/101-1", DOWN, "101", of=client)
    it.dial(client, rung, "101")
    it.to(rung, RINGING)
    it.talk(client, rung)
    it.hang_up(client, rung)
    assert words(it.end) == (INCOMING, CLIENT, "+375172000001", "modem0", "101", Result.ANSWERED)

    it = script(*trunks)
    caller = it.new("PJSIP/101-1", RING, "101", CLIENT_AS_DIALLED)
    line = it.new("NewGsm/modem0-1", DOWN, of=caller)
    it.dial(caller, line, f"modem0/{CLIENT_AS_DIALLED}")
    it.to(line, state)
    it.talk(caller, line)
    it.hang_up(caller, line)
    assert words(it.end) == (OUTGOING, "101", CLIENT, "modem0", "101", Result.ANSWERED)


# Codes


@pytest.mark.parametrize("code", ["555101", "*555150", "5551015", "8005551", "9990000001", "*801010", "123456789012"])
def test_a_code_is_no_outgoing_call(code: str) -> None:
    it = script()
    caller = it.new("PJSIP/101-1", RING, "101", code)
    it.to(caller, UP)
    it.wait(5)
    it.hang_up(caller)
    ended = it.end
    assert (ended.direction, ended.caller, ended.called) == (INTERNAL, "101", code)


def test_a_paging_code_calls_colleagues() -> None:
    it = script()
    caller = it.new("PJSIP/101-1", RING, "101", "700700")
    rung = it.new("PJSIP/102-1", DOWN, "102", of=caller)
    it.dial(caller, rung, "102")
    it.to(rung, RINGING)
    it.talk(caller, rung)
    it.hang_up(caller, rung)
    assert words(it.end) == (INTERNAL, "101", "700700", None, "102", Result.ANSWERED)
    assert [ring.direction for ring in it.rings] == [INTERNAL]


def test_an_outside_number_for_which_there_is_no_line_has_failed() -> None:
    it = script()
    caller = it.new("PJSIP/101-1", RING, "101", CLIENT_AS_DIALLED)
    it.gone(caller, cause="34")
    assert words(it.end) == (OUTGOING, "101", CLIENT, None, "101", Result.FAILED)


# Names


@pytest.mark.parametrize(
    ("trunk", "channel"),
    [
        ("North line", "PJSIP/North line-00000001"), ("Северная линия", "SIP/Северная линия-00000001"),
        ("office/main", "PJSIP/office/main-00000001"), ("101@acme", "PJSIP/101@acme-00000001"),
        ("DAHDI/33", "DAHDI/33-1"), ("33", "DAHDI/33-1"), ("i2", "DAHDI/i2/80291112233-1f"), ("i2", "DAHDI/i2/-2"),
        ("i2", "DAHDI/i2/101-3"), ("DAHDI/i2", "DAHDI/i2/80291112233-1f"), ("dongle0", "Dongle/dongle0-0100000001"),
        ("Dongle/dongle0", "Dongle/dongle0-0100000001"), ("a-b", "SIP/a-b-00000001"), ("7788", "PJSIP/7788-00000001"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("caller", [CLIENT, "7788"])
def test_names_of_lines(trunk: str, channel: str, caller: str) -> None:
    it = script(trunk)
    it.hang_up(it.new(channel, RING, caller, DID))
    assert (it.end.direction, it.end.caller, it.end.trunk) == (INCOMING, caller, trunk)


def test_a_line_that_is_not_listed_has_the_name_of_its_endpoint() -> None:
    it = script()
    it.hang_up(it.new("DAHDI/i2/80291112233-1f", RING, CLIENT, DID))
    assert it.end.trunk == "i2"


def test_names_of_devices() -> None:
    phones = (Phone("101", endpoints=("DAHDI/7",)), Phone("102", endpoints=("101@acme", "Анна дома")))
    for name, number in (("DAHDI/7-1", "101"), ("PJSIP/101@acme-1", "102"), ("SIP/Анна дома-1", "102")):
        it = script(phones=phones)
        client = it.new("PJSIP/provider-1", RING, CLIENT, DID)
        rung = it.new(name, DOWN, of=client)
        it.dial(client, rung, "whatever")
        it.to(rung, RINGING)
        it.hang_up(client, rung, cause="0")
        assert it.end.rang == (number,), name


@pytest.mark.parametrize(
    ("string", "technology", "number"),
    [
        ("7", "DAHDI", ""),
        ("g1/7", "DAHDI", "7"),
        ("aaln/12@gw", "MGCP", ""),
        ("101", "SIP", "101"),
        ("anna", "SIP", "anna"),
    ],
)
def test_what_a_dial_string_says(string: str, technology: str, number: str) -> None:
    assert dialled_number(string, technology) == number


# Numbers that the tenant does not list

LISTED = (Phone("101"), Phone("102"))


def test_a_number_that_is_not_listed_is_a_colleague() -> None:
    it = script(phones=LISTED)
    caller = it.new("SIP/155-1", RING, "155", "101")
    rung = it.new("SIP/101-1", DOWN, "101", of=caller)
    it.dial(caller, rung, "101")
    it.to(rung, RINGING)
    it.talk(caller, rung)
    it.hang_up(caller, rung)
    assert words(it.end) == (INTERNAL, "155", "101", None, "101", Result.ANSWERED)
    assert [(one["number"], one["device"]) for one in it.tracker.unlisted()] == [("155", "SIP/155")]


def test_a_number_that_is_not_listed_calls_out_and_rings() -> None:
    it = script(phones=LISTED)
    caller = it.new("SIP/anna-1", RING, "155", CLIENT_AS_DIALLED)
    line = dial_out(it, caller, "SIP/provider-1", f"provider/{CLIENT_AS_DIALLED}")
    it.talk(caller, line)
    it.hang_up(caller, line)
    assert words(it.end) == (OUTGOING, "155", CLIENT, "provider", "155", Result.ANSWERED)

    it = script(phones=LISTED)
    client = it.new("SIP/provider-1", RING, CLIENT, DID)
    rung = it.new("SIP/155-1", DOWN, "155", of=client)
    it.dial(client, rung, "155")
    it.to(rung, RINGING)
    it.talk(client, rung)
    it.hang_up(client, rung)
    assert words(it.end) == (INCOMING, CLIENT, "+375172000001", "provider", "155", Result.ANSWERED)
    assert it.end.rang == ("155",)


def test_a_line_that_is_not_listed_and_dialled_for_a_group_is_no_colleague() -> None:
    """Dial gives the leg the number of the extension that dials it."""
    it = script("other", phones=LISTED)
    client = it.new("SIP/other-1", RING, CLIENT, DID)
    line = it.new("SIP/provider-1", DOWN, "600", of=client)
    it.dial(client, line, "provider/80291114444")
    it.to(line, RINGING)
    it.hang_up(client, line, cause="0")
    assert it.end.rang == ()
    assert it.tracker.unlisted() == ()


def test_short_numbers_on_a_line_are_clients() -> None:
    it = script(phones=LISTED)
    it.hang_up(it.new("SIP/provider-1", RING, "7788", DID))
    assert (it.end.direction, it.end.caller) == (INCOMING, "7788")
    assert it.tracker.unlisted() == ()


def test_a_click_for_a_number_that_is_not_listed() -> None:
    it = script(phones=LISTED)
    local = it.new("Local/155@office-1;1", DOWN)
    it.new("Local/155@office-1;2", RING, "155", of=local)
    employee = it.new("SIP/155-1", DOWN, "155", of=local)
    it.dial(None, employee, "155")
    it.to(employee, RINGING)
    assert not [ring for ring in it.rings if ring.called == "155"]


def test_the_record_of_numbers_is_bounded() -> None:
    it = script(phones=LISTED)
    for number in range(200, 200 + MOST_UNLISTED + 20):
        it.gone(it.new(f"SIP/{number}-1", RING, str(number), "101"))
    seen = it.tracker.unlisted()
    assert len(seen) == MOST_UNLISTED
    assert seen[0]["number"] == str(200 + MOST_UNLISTED + 19)
    assert set(seen[0]) == {"number", "device", "at"}


def test_a_pseudo_channel_is_nobody() -> None:
    channel: Any = Channel("1.1", "DAHDI/pseudo-12", AUTHOR)
    assert not channel.is_leg
