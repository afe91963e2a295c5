"""What a posted event adds to its call: a fold over the call's state, so repeats and late events add nothing.

    start    nothing: a call begins when it rings; `announced` is what may be shown of it before
    dial     CallRinging, and again when further phones ring
    bridge   CallAnswered, once
    hangup   CallEnded, with a CallRinging before it where the dial was never seen

Owns the reading of directions, employees, results and durations from what hosts post. It never reads a clock: times
are the host's where it sends any that fit the call, else the time of arrival. Read `gateway/domain/posts.py` before it
and `gateway/domain/calls.py`, which applies the events, after it.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.domain.calls import Call, Phase, apply
from gateway.domain.configuration import Tenant
from gateway.domain.events import CallAnswered, CallEnded, CallEvent, CallRinging, Direction, HungUpBy, Result
from gateway.domain.ids import CallId
from gateway.domain.numbers import (
    LONGEST_SHORT,
    PORTS,
    bare,
    dialled,
    hidden,
    in_dial_string,
    is_internal,
    is_short,
    outside,
)
from gateway.domain.posts import Post, Status, Step

_AHEAD = timedelta(minutes=5)
"""A host's clock may be so far ahead of ours before its times are not believed."""
_CALL_SUFFIX = re.compile(r"-[0-9a-f]+(?:;[12])?$")
"""What tells the channels of one device apart: PJSIP/150-0000001a."""
_LONGEST_RING = timedelta(minutes=30)
_LONGEST_CALL = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class _Sides:
    direction: Direction
    caller: str
    called: str
    employee: str | None
    """Who placed an outgoing or internal call."""
    ringing: tuple[str, ...]


def _extension(given: str, tenant: Tenant) -> str:
    """`150` of `150`, `SIP/150`, `PJSIP/150-0000001a`, `PJSIP/150/sip:150@10.0.0.5` or `Local/150@inoffice/n`, the number
    of the phone whose device it is, or nothing: for a port without a number, and for an outside number on a line."""
    technology, slash, device = given.partition("/")
    if not slash:
        number = bare(given)
        return _of_device(number, tenant) or number
    name = _CALL_SUFFIX.sub("", device)
    known = (_of_device(one, tenant) for one in (device, given, name, f"{technology}/{name}"))
    if number := next((one for one in known if one), ""):
        return number
    number = in_dial_string(name)
    on_a_line = "/" in device or ("@" in device and technology != "Local")
    if on_a_line and len(number) > LONGEST_SHORT and not is_internal(number, tenant.phones):
        return ""
    if technology in PORTS:
        return number if "/" in device else ""
    return number or name


def _of_device(device: str, tenant: Tenant) -> str:
    return next((phone.number for phone in tenant.phones if device in phone.devices), "")


def _extensions(post: Post, tenant: Tenant) -> tuple[str, ...]:
    return tuple(dict.fromkeys(number for one in post.extensions if (number := _extension(one, tenant))))


def _by_line(post: Post, number: str, tenant: Tenant) -> bool:
    """Whether the host names an outside line, and not the phone itself."""
    return bool(post.trunk) and _extension(post.trunk or "", tenant) != number


def _is_colleague(number: str, post: Post, tenant: Tenant) -> bool:
    """One of the tenant's phones, or a short number that is not listed and that no outside line carries."""
    return is_internal(number, tenant.phones) or (is_short(number) and not _by_line(post, number, tenant))


def _direction(post: Post, tenant: Tenant, ringing: tuple[str, ...]) -> Direction:
    if post.direction is not None:
        return post.direction
    caller = _extension(post.caller_id, tenant)
    if hidden(post.caller_id) or not _is_colleague(caller, post, tenant):
        return Direction.INCOMING
    if not hidden(post.connected_line):
        inside = _is_colleague(_extension(post.connected_line, tenant), post, tenant)
        return Direction.INTERNAL if inside else Direction.OUTGOING
    colleagues = [one for one in ringing if one != caller and _is_colleague(one, post, tenant)]
    return Direction.INTERNAL if colleagues else Direction.OUTGOING


def _dialled(post: Post, tenant: Tenant) -> str:
    """The company's number of an incoming call, where the host sends it; else the trunk's; else the internal one."""
    if not hidden(post.connected_line) and not is_internal(bare(post.connected_line), tenant.phones):
        return outside(post.connected_line, tenant.country)
    trunk = outside(post.trunk, tenant.country)
    if trunk.startswith("+"):
        return trunk
    return "" if hidden(post.connected_line) else bare(post.connected_line)


def _client(post: Post, tenant: Tenant) -> str:
    """The number that an employee dialled; digits for an outside line may stand before it."""
    prefixes = dict.fromkeys(str(pbx.settings.get("dial_prefix") or "") for pbx in tenant.pbxes)
    return dialled(post.connected_line, tenant.country, tuple(prefix for prefix in prefixes if prefix))


def _sides(post: Post, tenant: Tenant) -> _Sides:
    extensions = _extensions(post, tenant)
    direction = _direction(post, tenant, extensions)
    if direction is Direction.INCOMING:
        caller = outside(post.caller_id, tenant.country)
        ringing = tuple(number for number in extensions if number != bare(post.caller_id))
        return _Sides(direction, caller, _dialled(post, tenant), None, ringing)
    employee = _extension(post.caller_id, tenant)
    if direction is Direction.OUTGOING:
        if not is_internal(employee, tenant.phones):
            # The line's own number stands where the employee should; who dials is then among the extensions.
            employee = next((one for one in extensions if is_internal(one, tenant.phones)), employee)
        return _Sides(direction, employee, _client(post, tenant), employee or None, ())
    others = tuple(number for number in extensions if number != employee)
    called = "" if hidden(post.connected_line) else _extension(post.connected_line, tenant)
    called = called or (others[0] if others else "")
    return _Sides(direction, employee, called, employee or None, others or ((called,) if called else ()))


def _ringing(post: Post, sides: _Sides, at: datetime, extensions: tuple[str, ...]) -> CallRinging:
    return CallRinging(
        call_id=CallId(post.unique_id), at=at, direction=sides.direction, caller=sides.caller, called=sides.called,
        trunk=post.trunk, extensions=extensions,
    )  # fmt: skip


def _began(post: Post) -> datetime:
    """When it began to ring: the host's `StartTime` unless it lies in the future."""
    if post.start_time is not None and post.start_time <= post.received_at + _AHEAD:
        return post.start_time
    return post.received_at


def _dial(call: Call | None, post: Post, tenant: Tenant) -> list[CallEvent]:
    sides = _sides(post, tenant)
    if call is None:
        return [_ringing(post, sides, _began(post), sides.ringing)]
    if call.direction is Direction.OUTGOING:
        return []
    further = tuple(number for number in sides.ringing if number not in call.rang and number != call.caller)
    if not further:
        return []
    at = max(post.received_at, call.started_at)
    same = replace(sides, direction=call.direction, caller=call.caller, called=call.called)
    return [_ringing(post, same, at, call.ringing + further)]


def _who(call: Call, post: Post, tenant: Tenant) -> str | None:
    """The employee of the call: who placed it, or who answered as far as the event or the ringing phones show."""
    if call.direction is Direction.OUTGOING:
        return call.caller or None
    caller = "" if hidden(post.caller_id) else _extension(post.caller_id, tenant)
    reported = ["" if hidden(post.connected_line) else _extension(post.connected_line, tenant), caller]
    named = _extensions(post, tenant)
    if len(named) == 1:
        reported += named
    likely = [number for number in reported if number != call.caller and number != caller] + reported
    for number in likely:
        if number != call.caller and (number in call.rang or is_internal(number, tenant.phones)):
            return number
    if len(named) == 1 and named[0] != call.caller:
        return named[0]
    return call.rang[0] if len(call.rang) == 1 else None


def _bridge(call: Call | None, post: Post, tenant: Tenant) -> list[CallEvent]:
    if call is None or call.phase is not Phase.RINGING:
        return []
    waited = post.received_at - call.started_at
    # Where the host's clock and ours plainly disagree, the answer is put at the first ring: its own times decide the rest.
    at = post.received_at if timedelta(0) <= waited <= _LONGEST_RING else call.started_at
    return [
        CallAnswered(
            call_id=call.call_id, at=at, extension=_who(call, post, tenant),
            wait_s=_seconds(at - call.started_at),
        )
    ]  # fmt: skip


def _seconds(span: timedelta) -> float:
    return round(max(span.total_seconds(), 0.0), 3)


def _ended_at(call: Call, post: Post) -> datetime:
    """The host's `EndTime` where it fits the call, else the time of arrival, else the last thing known."""
    last = call.answered_at or call.started_at
    if post.end_time is not None and call.started_at <= post.end_time <= post.received_at + _AHEAD:
        return max(post.end_time, last)
    return post.received_at if timedelta(0) <= post.received_at - last <= _LONGEST_CALL else last


def _unanswered(call: Call, status: Status | None) -> Result:
    match status:
        case Status.BUSY:
            return Result.BUSY
        case Status.FAILED:
            return Result.FAILED
        case Status.CANCELLED if call.direction is Direction.OUTGOING:
            return Result.CANCELLED
    return Result.NO_ANSWER if call.direction is Direction.OUTGOING else Result.MISSED


def _hung_up_by(call: Call, status: Status | None, result: Result) -> HungUpBy | None:
    if result is Result.ANSWERED or call.phase is Phase.TALKING:
        return None
    match status:
        case Status.CANCELLED:
            return HungUpBy.CALLER
        case Status.BUSY:
            return HungUpBy.CALLEE
        case Status.NO_ANSWER | Status.FAILED:
            return HungUpBy.SYSTEM
    return None


def _spans(call: Call, post: Post, ended_at: datetime) -> tuple[float | None, float | None]:
    """(wait_s, talk_s) of an answered call: from the bridge where it was seen, else from the host's own times."""
    if call.answered_at is not None:
        fits = post.end_time is None or call.answered_at <= post.end_time
        if fits or post.start_time is None or post.end_time is None:
            return call.wait_s, _seconds(ended_at - call.answered_at)
        return call.wait_s, _seconds(post.end_time - post.start_time - timedelta(seconds=call.wait_s or 0.0))
    if post.start_time is not None and post.end_time is not None:
        return _seconds(post.start_time - call.started_at), _seconds(post.end_time - post.start_time)
    return 0.0, _seconds(ended_at - call.started_at)


def _hangup(call: Call | None, post: Post, tenant: Tenant) -> list[CallEvent]:
    events: list[CallEvent] = []
    if call is None:
        sides = _sides(post, tenant)
        ringing = _ringing(post, sides, min(_began(post), post.end_time or post.received_at), sides.ringing)
        events.append(ringing)
        call = apply(None, ringing)
        assert call is not None
    answered = call.phase is Phase.TALKING or post.status is Status.ANSWERED
    ended_at = _ended_at(call, post)
    result = Result.ANSWERED if answered else _unanswered(call, post.status)
    wait_s, talk_s = _spans(call, post, ended_at) if answered else (None, None)
    bridged = call.phase is Phase.TALKING and call.extension is not None
    outgoing = call.direction is Direction.OUTGOING
    employee = call.extension if bridged else _who(call, post, tenant) if answered or outgoing else None
    events.append(
        CallEnded(
            call_id=call.call_id, at=ended_at, direction=call.direction, caller=call.caller, called=call.called,
            trunk=post.trunk or call.trunk, extension=employee,
            last_extension=(call.last_extension or employee) if answered else None,
            rang=_rang(call, employee if answered else None), result=result, wait_s=wait_s, talk_s=talk_s,
            hung_up_by=_hung_up_by(call, post.status, result), recording=post.record_url,
        )
    )  # fmt: skip
    return events


def _rang(call: Call, answered_by: str | None) -> tuple[str, ...]:
    """Who answered rang, even where no dial reported it; an employee who called out did not."""
    if answered_by is None or answered_by in call.rang or call.direction is Direction.OUTGOING:
        return call.rang
    return (*call.rang, answered_by)


def announced(post: Post, tenant: Tenant) -> Call | None:
    """What a `start` says of a call that nothing else has reported yet; None for any other step. It is not stored."""
    if post.step is not Step.START:
        return None
    call = apply(None, _ringing(post, _sides(post, tenant), _began(post), ()))
    assert call is not None
    return replace(call, events=0)


def reported(call: Call | None, post: Post, tenant: Tenant) -> list[CallEvent]:
    """The events that `post` makes of the call in this state (None: not known yet). A call that is over gives none."""
    if call is not None and not call.open:
        return []
    match post.step:
        case Step.START:
            return []
        case Step.DIAL:
            return _dial(call, post, tenant)
        case Step.BRIDGE:
            return _bridge(call, post, tenant)
        case Step.HANGUP:
            return _hangup(call, post, tenant)
