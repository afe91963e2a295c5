"""Employees who call out, and each other. Read `click.py` next."""

from trio import sleep

from tests.lab.kinds.truth import Truth, internal, kind, outgoing, times
from tests.lab.machine import CLIENT, SECOND_TRUNK, Scene


@kind("outgoing-callee-hangs-up")
async def outgoing_callee(s: Scene) -> Truth:
    """The client answers and hangs up."""
    caller = s.smart_redirect("150").call(CLIENT)
    far = await s.outside().rings()
    await sleep(1.5)
    far.answer()
    await caller.answers()
    await sleep(2)
    far.hang_up()
    await caller.ends()
    return outgoing(by="callee", **times(far, far, far))


@kind("outgoing-refused")
async def outgoing_refused(s: Scene) -> Truth:
    """It rings at the client's, who presses the red button."""
    caller = s.smart_redirect("150").call(CLIENT)
    far = await s.outside().rings()
    await sleep(1.5)
    far.refuse(603, "Decline")
    await caller.ends()
    return outgoing("no_answer", by="callee")


@kind("outgoing-rang-then-busy")
async def outgoing_rang_busy(s: Scene) -> Truth:
    """It rings at the client's, who then says busy."""
    caller = s.smart_redirect("150").call(CLIENT)
    far = await s.outside().rings()
    await sleep(1.5)
    far.refuse()
    await caller.ends()
    return outgoing("busy", by="callee")


@kind("outgoing-congestion")
async def outgoing_congestion(s: Scene) -> Truth:
    """The provider says 503."""
    line = s.outside()
    caller = s.smart_redirect("150").call(CLIENT)
    (await line.called()).refuse(503, "Service Unavailable")
    await caller.ends()
    return outgoing("failed", by="callee")


@kind("outgoing-cancelled-before-ring")
async def outgoing_cancelled(s: Scene) -> Truth:
    """150 hangs up before anything rang."""
    line = s.outside()
    caller = s.smart_redirect("150").call(CLIENT)
    far = await line.called()
    await sleep(1.5)
    caller.hang_up()
    await far.ends()
    return outgoing("cancelled")


@kind("outgoing-early-media")
async def outgoing_early_media(s: Scene) -> Truth:
    """The ringing tone comes as sound (183 without 180); the client answers."""
    line = s.outside()
    caller = s.smart_redirect("150").call(CLIENT)
    far = await line.called()
    await sleep(0.5)
    far.progress()
    await sleep(2)
    far.answer()
    await caller.answers()
    await sleep(2)
    caller.hang_up()
    await far.ends()
    return outgoing(**times(far, far, caller))


@kind("outgoing-early-media-no-answer")
async def outgoing_early_media_missed(s: Scene) -> Truth:
    """The ringing tone comes as sound; 150 gives up."""
    line = s.outside()
    caller = s.smart_redirect("150").call(CLIENT)
    far = await line.called()
    await sleep(0.5)
    far.progress()
    await sleep(2)
    caller.hang_up()
    await far.ends()
    return outgoing("no_answer")


@kind("outgoing-limit-of-talk")
async def outgoing_limit(s: Scene) -> Truth:
    """The PBX ends the talk after three seconds."""
    caller = s.smart_redirect("150").call("7" + CLIENT.lstrip("+"))
    far = await s.outside().rings()
    await sleep(1)
    far.answer()
    await caller.ends()
    await far.ends()
    return outgoing(by="system", **times(far, far, min(caller, far, key=lambda leg: leg.ended_at or 0)))


@kind("outgoing-second-trunk-after-failure")
async def outgoing_failover(s: Scene) -> Truth:
    """The first provider says 503; by the second the client answers."""
    first, second = s.outside(), s.outside(SECOND_TRUNK)
    caller = s.smart_redirect("150").call("9" + CLIENT.lstrip("+"))
    (await first.called()).refuse(503, "Service Unavailable")
    far = await second.rings()
    await sleep(1.5)
    far.answer()
    await caller.answers()
    await sleep(2)
    caller.hang_up()
    await far.ends()
    return outgoing(trunk=SECOND_TRUNK, **times(far, far, caller))


@kind("outgoing-both-trunks-fail")
async def outgoing_both_fail(s: Scene) -> Truth:
    """Both providers say 503."""
    first, second = s.outside(), s.outside(SECOND_TRUNK)
    caller = s.smart_redirect("150").call("9" + CLIENT.lstrip("+"))
    (await first.called()).refuse(503, "Service Unavailable")
    (await second.called()).refuse(503, "Service Unavailable")
    await caller.ends()
    return outgoing("failed", by="system", trunk=SECOND_TRUNK)


@kind("outgoing-by-second-trunk")
async def outgoing_second(s: Scene) -> Truth:
    """A prefix chooses the second provider."""
    line = s.outside(SECOND_TRUNK)
    caller = s.smart_redirect("150").call("8" + CLIENT.lstrip("+"))
    far = await line.rings()
    await sleep(1)
    far.answer()
    await caller.answers()
    await sleep(1.5)
    caller.hang_up()
    await far.ends()
    return outgoing(trunk=SECOND_TRUNK, **times(far, far, caller))


@kind("outgoing-hold")
async def outgoing_hold(s: Scene) -> Truth:
    """150 puts the client on hold and takes him back."""
    caller = s.smart_redirect("150").call(CLIENT)
    far = await s.outside().rings()
    await sleep(1)
    far.answer()
    await caller.answers()
    await sleep(1)
    caller.hold()
    await sleep(1.5)
    caller.hold(False)
    await sleep(1)
    caller.hang_up()
    await far.ends()
    return outgoing(**times(far, far, caller))


@kind("outgoing-transferred-blind")
async def outgoing_blind(s: Scene) -> Truth:
    """150 calls the client and transfers him to 152, who answers."""
    caller = s.smart_redirect("150").call(CLIENT)
    far = await s.outside().rings()
    await sleep(1)
    far.answer()
    await caller.answers()
    await sleep(1.5)
    caller.transfer("152")
    third = await s.smart_redirect("152").rings()
    await sleep(1)
    third.answer()
    await sleep(1.5)
    far.hang_up()
    await third.ends()
    return outgoing(
        by="callee", rang=("152",), last_extension="152", transfers=(("150", "152"),), **times(far, far, far)
    )


@kind("outgoing-transferred-attended")
async def outgoing_attended(s: Scene) -> Truth:
    """150 calls the client, asks 152 in a second call, and joins them (REFER with Replaces)."""
    one = s.smart_redirect("150")
    caller = one.call(CLIENT)
    far = await s.outside().rings()
    await sleep(1)
    far.answer()
    await caller.answers()
    await sleep(1)
    caller.hold()
    asking = one.call("152")
    requested = await s.smart_redirect("152").rings()
    await sleep(1)
    requested.answer()
    await asking.answers()
    await sleep(1)
    caller.transfer("152", asking)
    await caller.gives_over(asking)
    await sleep(1.5)
    far.hang_up()
    await requested.ends()
    return outgoing(
        by="callee", rang=("152",), last_extension="152", transfers=(("150", "152"),), **times(far, far, far)
    )


@kind("internal-callee-hangs-up")
async def internal_callee(s: Scene) -> Truth:
    """150 calls 152, who answers and hangs up."""
    caller = s.smart_redirect("150").call("152")
    leg = await s.smart_redirect("152").rings()
    await sleep(1)
    leg.answer()
    await caller.answers()
    await sleep(1.5)
    leg.hang_up()
    await caller.ends()
    return internal("152", by="callee", rang=("152",), extension="152", last_extension="152", **times(leg, leg, leg))


@kind("internal-caller-hangs-up")
async def internal_caller(s: Scene) -> Truth:
    """150 calls 152, who answers; 150 hangs up."""
    caller = s.smart_redirect("150").call("152")
    leg = await s.smart_redirect("152").rings()
    await sleep(1)
    leg.answer()
    await caller.answers()
    await sleep(1.5)
    caller.hang_up()
    await leg.ends()
    return internal("152", rang=("152",), extension="152", last_extension="152", **times(leg, leg, caller))


@kind("internal-missed")
async def internal_missed(s: Scene) -> Truth:
    """152 rings, 150 gives up."""
    caller = s.smart_redirect("150").call("152")
    leg = await s.smart_redirect("152").rings()
    await sleep(1.5)
    caller.hang_up()
    await leg.ends()
    return internal("152", "missed", rang=("152",))


@kind("internal-cancelled")
async def internal_cancelled(s: Scene) -> Truth:
    """150 hangs up before 152 rings."""
    phone = s.smart_redirect("152")
    caller = s.smart_redirect("150").call("152")
    leg = await phone.called()
    await sleep(1)
    caller.hang_up()
    await leg.ends()
    return internal("152", "missed")


@kind("internal-busy")
async def internal_busy(s: Scene) -> Truth:
    """152 says busy."""
    phone = s.smart_redirect("152")
    caller = s.smart_redirect("150").call("152")
    (await phone.called()).refuse()
    await caller.ends()
    return internal("152", "busy", by="callee")


@kind("internal-declined")
async def internal_declined(s: Scene) -> Truth:
    """152 rings and presses the red button."""
    caller = s.smart_redirect("150").call("152")
    leg = await s.smart_redirect("152").rings()
    await sleep(1)
    leg.refuse(603, "Decline")
    await caller.ends()
    return internal("152", "missed", by="callee", rang=("152",))


@kind("internal-do-not-disturb")
async def internal_dnd(s: Scene) -> Truth:
    """155 does not want to be disturbed."""
    caller = s.smart_redirect("150").call("155")
    await caller.ends()
    return internal("155", "busy", by="system")


@kind("internal-wrong-extension")
async def internal_wrong(s: Scene) -> Truth:
    """There is no 199."""
    caller = s.smart_redirect("150").call("199")
    await caller.ends()
    return internal("199", "failed", by="system")


@kind("internal-voicemail")
async def internal_voicemail(s: Scene) -> Truth:
    """152 does not answer, voicemail takes a message: missed."""
    caller = s.smart_redirect("150").call("159")
    await s.smart_redirect("152").rings()
    await caller.answers()
    await sleep(2)
    caller.hang_up()
    return internal("159", "missed", rang=("152",))


@kind("internal-limit-of-talk")
async def internal_limit(s: Scene) -> Truth:
    """The PBX ends the talk after three seconds."""
    caller = s.smart_redirect("150").call("161")
    leg = await s.smart_redirect("151").rings()
    await sleep(1)
    leg.answer()
    await caller.ends()
    await leg.ends()
    first = min(caller, leg, key=lambda side: side.ended_at or 0)
    return internal("161", by="system", rang=("151",), extension="151", last_extension="151", **times(leg, leg, first))


@kind("internal-forwarded-mobile")
async def internal_forwarded(s: Scene) -> Truth:
    """158 is forwarded to a mobile, which answers: an internal call."""
    line = s.outside()
    caller = s.smart_redirect("150").call("158")
    leg = await line.rings()
    await sleep(1)
    leg.answer()
    await caller.answers()
    await sleep(1.5)
    caller.hang_up()
    await leg.ends()
    return internal(
        "158", trunk="trunk-0001", rang=("158",), extension="158", last_extension="158", **times(leg, leg, caller)
    )


@kind("internal-transferred-blind")
async def internal_transferred(s: Scene) -> Truth:
    """150 calls 152, who transfers 150 to 153, who answers."""
    caller = s.smart_redirect("150").call("152")
    leg = await s.smart_redirect("152").rings()
    await sleep(1)
    leg.answer()
    await caller.answers()
    await sleep(1)
    leg.transfer("153")
    third = await s.smart_redirect("153").rings()
    await sleep(1)
    third.answer()
    await sleep(1.5)
    caller.hang_up()
    await third.ends()
    return internal(
        "152", rang=("152", "153"), extension="152", last_extension="153", transfers=(("152", "153"),),
        **times(leg, leg, caller),
    )  # fmt: skip


@kind("internal-transferred-by-caller")
async def internal_transferred_by_caller(s: Scene) -> Truth:
    """150 calls 152 and transfers 152 to 153, who answers: 152, who answered, also talks last, and hangs up."""
    caller = s.smart_redirect("150").call("152")
    leg = await s.smart_redirect("152").rings()
    await sleep(1)
    leg.answer()
    await caller.answers()
    await sleep(1)
    caller.transfer("153")
    third = await s.smart_redirect("153").rings()
    await sleep(1)
    third.answer()
    await sleep(1.5)
    leg.hang_up()
    await third.ends()
    return internal(
        "152", by="callee", rang=("152", "153"), extension="152", last_extension="152", **times(leg, leg, leg),
    )  # fmt: skip


@kind("internal-conference-alone")
async def internal_conference(s: Scene) -> Truth:
    """150 dials into a conference that nobody else comes to: nobody was called, nobody answered."""
    caller = s.smart_redirect("150").call("800")
    await caller.answers()
    await sleep(2)
    caller.hang_up()
    return internal("800", "missed")
