"""Clients who call: ring groups, hunting, menus, voicemail, forwarding, do-not-disturb, limits. Read `queues.py` next."""

from trio import sleep

from tests.lab.kinds.truth import DIRECT, GROUP, MOBILE, Truth, did, incoming, kind, times
from tests.lab.machine import SECOND_TRUNK, Scene

BOTH = ("150", "151")


@kind("group-callee-hangs-up")
async def group_callee_hangs_up(s: Scene) -> Truth:
    """150 and 151 ring; 151 answers and hangs up."""
    one, two = s.desk("150"), s.desk("151")
    client = s.outside().call(GROUP)
    first, second = await one.rings(), await two.rings()
    await sleep(1.5)
    second.answer()
    await client.answers()
    await sleep(2)
    second.hang_up()
    await client.ends()
    return incoming(
        GROUP, by="callee", rang=BOTH, extension="151", last_extension="151", **times(first, second, second)
    )


@kind("group-timed-out")
async def group_timed_out(s: Scene) -> Truth:
    """Nobody answers; the PBX gives up."""
    one, two = s.desk("150"), s.desk("151")
    client = s.outside().call(did(36))
    await one.rings(), await two.rings()
    await client.ends()
    return incoming(did(36), "missed", by="system", rang=BOTH)


@kind("group-one-busy")
async def group_one_busy(s: Scene) -> Truth:
    """151 says busy, 150 answers."""
    one, two = s.desk("150"), s.desk("151")
    client = s.outside().call(GROUP)
    first = await one.rings()
    (await two.called()).refuse()
    await sleep(1.5)
    first.answer()
    await client.answers()
    await sleep(2)
    client.hang_up()
    await first.ends()
    return incoming(GROUP, rang=("150",), extension="150", last_extension="150", **times(first, first, client))


@kind("group-one-busy-gave-up")
async def group_one_busy_gave_up(s: Scene) -> Truth:
    """151 says busy, 150 rings; the client gives up: missed, not busy."""
    one, two = s.desk("150"), s.desk("151")
    client = s.outside().call(GROUP)
    first = await one.rings()
    (await two.called()).refuse()
    await sleep(2)
    client.hang_up()
    await first.ends()
    return incoming(GROUP, "missed", rang=("150",))


@kind("group-one-declines")
async def group_one_declines(s: Scene) -> Truth:
    """Both ring; 150 presses the red button (603), 151 answers."""
    one, two = s.desk("150"), s.desk("151")
    client = s.outside().call(GROUP)
    first, second = await one.rings(), await two.rings()
    await sleep(1)
    first.refuse(603, "Decline")
    await sleep(1)
    second.answer()
    await client.answers()
    await sleep(2)
    client.hang_up()
    await second.ends()
    return incoming(GROUP, rang=BOTH, extension="151", last_extension="151", **times(first, second, client))


@kind("group-all-decline")
async def group_all_decline(s: Scene) -> Truth:
    """Both ring and both press the red button."""
    one, two = s.desk("150"), s.desk("151")
    client = s.outside().call(GROUP)
    first, second = await one.rings(), await two.rings()
    await sleep(1)
    first.refuse(603, "Decline")
    await sleep(0.7)
    second.refuse(603, "Decline")
    await client.ends()
    return incoming(GROUP, "missed", by="system", rang=BOTH)


@kind("group-rang-then-busy")
async def group_rang_then_busy(s: Scene) -> Truth:
    """150 rings, then says busy: it rang, and every phone said busy."""
    one = s.desk("150")
    client = s.outside().call(DIRECT)
    first = await one.rings()
    await sleep(1.5)
    first.refuse()
    await client.ends()
    return incoming(DIRECT, "busy", by="callee", rang=("150",))


@kind("group-one-without-phone")
async def group_one_without_phone(s: Scene) -> Truth:
    """157 is not registered, 150 answers."""
    one = s.desk("150")
    client = s.outside().call(did(31))
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(2)
    client.hang_up()
    await first.ends()
    return incoming(did(31), rang=("150",), extension="150", last_extension="150", **times(first, first, client))


@kind("phone-not-registered")
async def phone_not_registered(s: Scene) -> Truth:
    """157 has no phone at all: nobody picked up, as of any missed call."""
    client = s.outside().call(did(30))
    await client.ends()
    return incoming(did(30), "missed", by="system")


@kind("phone-switched-off")
async def phone_switched_off(s: Scene) -> Truth:
    """156 is registered where nothing listens: silence until the PBX gives up."""
    client = s.outside().call(did(29))
    await client.ends()
    return incoming(did(29), "missed", by="system")


@kind("phone-unreachable")
async def phone_unreachable(s: Scene) -> Truth:
    """The phone answers 503: nobody picked up, as of any missed call."""
    one = s.desk("150")
    client = s.outside().call(DIRECT)
    (await one.called()).refuse(503, "Service Unavailable")
    await client.ends()
    return incoming(DIRECT, "missed", by="callee")


@kind("hunting-second-group-answers")
async def hunting_answered(s: Scene) -> Truth:
    """150 and 151 ring three seconds, then 152 and 153; 153 answers."""
    phones = [s.desk(number) for number in ("150", "151", "152", "153")]
    client = s.outside().call(did(10))
    first = await phones[0].rings()
    await phones[1].rings()
    await phones[2].rings()
    last = await phones[3].rings()
    await sleep(1)
    last.answer()
    await client.answers()
    await sleep(2)
    client.hang_up()
    await last.ends()
    rang = ("150", "151", "152", "153")
    return incoming(did(10), rang=rang, extension="153", last_extension="153", **times(first, last, client))


@kind("hunting-nobody")
async def hunting_nobody(s: Scene) -> Truth:
    """Two groups ring, nobody answers."""
    phones = [s.desk(number) for number in ("150", "151", "152", "153")]
    client = s.outside().call(did(10))
    for phone in phones:
        await phone.rings()
    await client.ends()
    return incoming(did(10), "missed", by="system", rang=("150", "151", "152", "153"))


@kind("hunting-gave-up-in-second")
async def hunting_gave_up(s: Scene) -> Truth:
    """The client gives up while the second group rings."""
    phones = [s.desk(number) for number in ("150", "151", "152", "153")]
    client = s.outside().call(did(10))
    for phone in phones:
        await phone.rings()
    await sleep(1)
    client.hang_up()
    await sleep(0.3)
    return incoming(did(10), "missed", rang=("150", "151", "152", "153"))


@kind("early-answer")
async def early_answer(s: Scene) -> Truth:
    """The PBX answers and plays a tone, then 150 rings and answers."""
    one = s.desk("150")
    client = s.outside().call(did(17))
    first = await one.rings()
    await sleep(1.5)
    first.answer()
    await sleep(2)
    client.hang_up()
    await first.ends()
    return incoming(did(17), rang=("150",), extension="150", last_extension="150", **times(first, first, client))


@kind("early-answer-gave-up")
async def early_answer_gave_up(s: Scene) -> Truth:
    """The PBX answers, 150 rings; the client hangs up: missed."""
    one = s.desk("150")
    client = s.outside().call(did(17))
    first = await one.rings()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(did(17), "missed", rang=("150",))


@kind("announcement-only")
async def announcement_only(s: Scene) -> Truth:
    """The PBX plays a tone and hangs up; no phone was called."""
    client = s.outside().call(did(37))
    await client.answers()
    await client.ends()
    return incoming(did(37), "missed", by="system")


@kind("menu-gave-up")
async def menu_gave_up(s: Scene) -> Truth:
    """The client hangs up in the menu."""
    client = s.outside().call(did(18))
    await client.answers()
    await sleep(2)
    client.hang_up()
    return incoming(did(18), "missed")


@kind("menu-wrong-digit")
async def menu_wrong_digit(s: Scene) -> Truth:
    """The client presses a key that leads nowhere; the PBX hangs up."""
    client = s.outside().call(did(18))
    await client.answers()
    await sleep(1)
    await client.dial("7")
    await client.ends()
    return incoming(did(18), "missed", by="system")


@kind("menu-no-digit")
async def menu_no_digit(s: Scene) -> Truth:
    """The client presses nothing; the PBX hangs up."""
    client = s.outside().call(did(18))
    await client.ends()
    return incoming(did(18), "missed", by="system")


@kind("menu-digit-phone")
async def menu_digit_phone(s: Scene) -> Truth:
    """The client presses 1; 150 rings and answers."""
    one = s.desk("150")
    client = s.outside().call(did(18))
    await client.answers()
    await sleep(1)
    await client.dial("1")
    first = await one.rings()
    await sleep(1.5)
    first.answer()
    await sleep(2)
    first.hang_up()
    await client.ends()
    return incoming(
        did(18), by="callee", rang=("150",), extension="150", last_extension="150", **times(first, first, first)
    )


@kind("menu-digit-queue")
async def menu_digit_queue(s: Scene) -> Truth:
    """The client presses 2; the queue rings 150 and 151; 151 answers."""
    one, two = s.desk("150"), s.desk("151")
    client = s.outside().call(did(18))
    await client.answers()
    await sleep(1)
    await client.dial("2")
    first, second = await one.rings(), await two.rings()
    await sleep(1.5)
    second.answer()
    await sleep(2)
    client.hang_up()
    await second.ends()
    return incoming(
        did(18), rang=BOTH, extension="151", last_extension="151", queue="sales", **times(first, second, client)
    )


@kind("voicemail-on-busy")
async def voicemail_on_busy(s: Scene) -> Truth:
    """150 is busy, voicemail takes a message: busy."""
    one = s.desk("150")
    client = s.outside().call(did(19))
    (await one.called()).refuse()
    await client.answers()
    await sleep(3)
    client.hang_up()
    return incoming(did(19), "busy")


@kind("voicemail-on-no-answer")
async def voicemail_on_no_answer(s: Scene) -> Truth:
    """150 does not answer, voicemail takes a message: missed."""
    one = s.desk("150")
    client = s.outside().call(did(19))
    await one.rings()
    await client.answers()
    await sleep(3)
    client.hang_up()
    return incoming(did(19), "missed", rang=("150",))


@kind("forward-on-busy")
async def forward_on_busy(s: Scene) -> Truth:
    """150 is busy, 152 rings and answers."""
    one, other = s.desk("150"), s.desk("152")
    client = s.outside().call(did(24))
    (await one.called()).refuse()
    leg = await other.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return incoming(did(24), rang=("152",), extension="152", last_extension="152", **times(leg, leg, client))


@kind("forward-on-no-answer")
async def forward_on_no_answer(s: Scene) -> Truth:
    """150 rings three seconds, then 152, who answers."""
    one, other = s.desk("150"), s.desk("152")
    client = s.outside().call(did(25))
    first = await one.rings()
    leg = await other.rings()
    await sleep(1)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    rang = ("150", "152")
    return incoming(did(25), rang=rang, extension="152", last_extension="152", **times(first, leg, client))


@kind("forward-on-no-answer-mobile")
async def forward_to_mobile(s: Scene) -> Truth:
    """150 rings three seconds, then the mobile of the same person, who answers there."""
    one, line = s.desk("150"), s.outside()
    client = line.call(did(26))
    first = await one.rings()
    mobile = await line.rings()
    await sleep(1)
    mobile.answer()
    await sleep(2)
    client.hang_up()
    await mobile.ends()
    return incoming(did(26), rang=("150",), extension="150", last_extension="150", **times(first, mobile, client))


@kind("forward-always-mobile")
async def forward_always(s: Scene) -> Truth:
    """158 has no phone, only a forward to a mobile, which answers."""
    line = s.outside()
    client = line.call(did(27))
    mobile = await line.rings()
    await sleep(1.5)
    mobile.answer()
    await sleep(2)
    client.hang_up()
    await mobile.ends()
    return incoming(did(27), rang=("158",), extension="158", last_extension="158", **times(mobile, mobile, client))


@kind("forward-always-mobile-missed")
async def forward_always_missed(s: Scene) -> Truth:
    """The same; the mobile rings, the client gives up."""
    line = s.outside()
    client = line.call(did(27))
    mobile = await line.rings()
    await sleep(1.5)
    client.hang_up()
    await mobile.ends()
    return incoming(did(27), "missed", rang=("158",))


@kind("forward-302-colleague", audio=True)
async def forward_302(s: Scene) -> Truth:
    """The phone of 150 itself forwards (302) to 152, who answers."""
    one, other = s.desk("150"), s.desk("152")
    client = s.outside().call(DIRECT)
    (await one.called()).redirect("152")
    leg = await other.rings()
    await sleep(1.5)
    leg.answer()
    await sleep(2)
    client.hang_up()
    await leg.ends()
    return incoming(DIRECT, rang=("152",), extension="152", last_extension="152", **times(leg, leg, client))


@kind("forward-302-mobile", audio=True)
async def forward_302_mobile(s: Scene) -> Truth:
    """The phone of 150 forwards (302) to a mobile, which answers: it is 150's call."""
    one, line = s.desk("150"), s.outside()
    client = line.call(DIRECT)
    (await one.called()).redirect(MOBILE)
    mobile = await line.rings()
    await sleep(1.5)
    mobile.answer()
    await sleep(2)
    client.hang_up()
    await mobile.ends()
    return incoming(DIRECT, rang=("150",), extension="150", last_extension="150", **times(mobile, mobile, client))


@kind("do-not-disturb")
async def do_not_disturb(s: Scene) -> Truth:
    """155 does not want to be disturbed: the PBX says busy without calling the phone."""
    client = s.outside().call(did(28))
    await client.ends()
    return incoming(did(28), "busy", by="system")


@kind("did-without-destination")
async def did_without_destination(s: Scene) -> Truth:
    """The number leads nowhere."""
    client = s.outside().call(did(32))
    await client.ends()
    return incoming(did(32), "failed", by="system")


@kind("congestion")
async def congestion(s: Scene) -> Truth:
    """The PBX says congestion."""
    client = s.outside().call(did(33))
    await client.ends()
    return incoming(did(33), "failed", by="system")


@kind("limit-of-talk")
async def limit_of_talk(s: Scene) -> Truth:
    """The PBX ends the talk after three seconds."""
    one = s.desk("150")
    client = s.outside().call(did(34))
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.ends()
    ended = min(leg.ended_at or 0 for leg in (client, first))
    truth = times(first, first, client) | {"ended_at": ended}
    return incoming(did(34), by="system", rang=("150",), extension="150", last_extension="150", **truth)


@kind("anonymous-caller")
async def anonymous_caller(s: Scene) -> Truth:
    """The caller hides the number (From anonymous, Privacy id)."""
    one = s.desk("150")
    client = s.outside().call(DIRECT, private=True)
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(
        DIRECT, caller="anonymous", rang=("150",), extension="150", last_extension="150", **times(first, first, client)
    )


@kind("hidden-presentation")
async def hidden_presentation(s: Scene) -> Truth:
    """The provider tells the number to the PBX, which must not show it."""
    one = s.desk("150")
    client = s.outside().call(did(39))
    first = await one.rings()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(did(39), "missed", caller="anonymous", rang=("150",))


@kind("second-device-answers", phones={"150": ["150"], "151": ["151", "anna-soft"]})
async def second_device(s: Scene) -> Truth:
    """151 has two devices that ring together; the softphone answers."""
    desk, soft = s.desk("151"), s.desk("151", "159")
    client = s.outside().call(did(35))
    first, second = await desk.rings(), await soft.rings()
    await sleep(1.5)
    second.answer()
    await client.answers()
    await sleep(2)
    client.hang_up()
    await second.ends()
    return incoming(did(35), rang=("151",), extension="151", last_extension="151", **times(first, second, client))


@kind("first-device-answers", phones={"150": ["150"], "151": ["151", "anna-soft"]})
async def first_device(s: Scene) -> Truth:
    """The desk phone of the two answers."""
    desk, soft = s.desk("151"), s.desk("151", "159")
    client = s.outside().call(did(35))
    first = await desk.rings()
    await soft.rings()
    await sleep(1.5)
    first.answer()
    await client.answers()
    await sleep(2)
    first.hang_up()
    await client.ends()
    return incoming(
        did(35), by="callee", rang=("151",), extension="151", last_extension="151", **times(first, first, first)
    )


@kind("two-devices-missed")
async def two_devices_missed(s: Scene) -> Truth:
    """Both devices ring, nobody picks up: one number rang."""
    desk, soft = s.desk("151"), s.desk("151", "159")
    client = s.outside().call(did(35))
    first = await desk.rings()
    await soft.rings()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(did(35), "missed", rang=("151",))


@kind("hold-and-back", audio=True)
async def hold_and_back(s: Scene) -> Truth:
    """150 puts the client on hold and takes him back: one talk."""
    one = s.desk("150")
    client = s.outside().call(DIRECT)
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1.5)
    first.hold()
    await sleep(1.5)
    first.hold(False)
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(DIRECT, rang=("150",), extension="150", last_extension="150", **times(first, first, client))


@kind("hang-up-on-hold")
async def hang_up_on_hold(s: Scene) -> Truth:
    """The client hangs up while on hold."""
    one = s.desk("150")
    client = s.outside().call(DIRECT)
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1)
    first.hold()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(DIRECT, rang=("150",), extension="150", last_extension="150", **times(first, first, client))


@kind("second-trunk")
async def second_trunk(s: Scene) -> Truth:
    """A client by the other provider."""
    one = s.desk("150")
    client = s.outside(SECOND_TRUNK).call(DIRECT)
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(
        DIRECT, trunk=SECOND_TRUNK, rang=("150",), extension="150", last_extension="150", **times(first, first, client)
    )


@kind("same-client-twice")
async def same_client_twice(s: Scene) -> list[Truth]:
    """The client gives up and calls again at once; the second call is answered."""
    one = s.desk("150")
    client = s.outside().call(DIRECT)
    first = await one.rings()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    again = s.outside().call(DIRECT)
    second = await one.rings()
    await sleep(1)
    second.answer()
    await again.answers()
    await sleep(1.5)
    again.hang_up()
    await second.ends()
    return [
        incoming(DIRECT, "missed", rang=("150",)),
        incoming(DIRECT, rang=("150",), extension="150", last_extension="150", **times(second, second, again)),
    ]


@kind("call-waiting")
async def call_waiting(s: Scene) -> list[Truth]:
    """While 150 talks, a second client calls; 150 holds the first, talks with the second, goes back."""
    one, line = s.desk("150"), s.outside()
    client = line.call(DIRECT)
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1)
    other = line.call(DIRECT, number=MOBILE)
    second = await one.rings()
    await sleep(1)
    first.hold()
    second.answer()
    await other.answers()
    await sleep(1.5)
    other.hang_up()
    await second.ends()
    first.hold(False)
    await sleep(1)
    first.hang_up()
    await client.ends()
    same = {"rang": ("150",), "extension": "150", "last_extension": "150"}
    return [
        incoming(DIRECT, by="callee", **same, **times(first, first, first)),
        incoming(DIRECT, caller=MOBILE, **same, **times(second, second, other)),
    ]


@kind("call-waiting-missed")
async def call_waiting_missed(s: Scene) -> list[Truth]:
    """While 150 talks, a second client calls and gives up."""
    one, line = s.desk("150"), s.outside()
    client = line.call(DIRECT)
    first = await one.rings()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1)
    other = line.call(DIRECT, number=MOBILE)
    second = await one.rings()
    await sleep(1.5)
    other.hang_up()
    await second.ends()
    await sleep(1)
    client.hang_up()
    await first.ends()
    return [
        incoming(DIRECT, rang=("150",), extension="150", last_extension="150", **times(first, first, client)),
        incoming(DIRECT, "missed", caller=MOBILE, rang=("150",)),
    ]


@kind("overlapping")
async def overlapping(s: Scene) -> list[Truth]:
    """Two clients talk with two phones at the same time."""
    one, two, line = s.desk("150"), s.desk("152"), s.outside()
    client = line.call(DIRECT)
    first = await one.rings()
    other = line.call(did(38), number=MOBILE)
    second = await two.rings()
    await sleep(1)
    second.answer()
    await other.answers()
    await sleep(1)
    first.answer()
    await client.answers()
    await sleep(1)
    second.hang_up()
    await other.ends()
    await sleep(1)
    client.hang_up()
    await first.ends()
    return [
        incoming(DIRECT, rang=("150",), extension="150", last_extension="150", **times(first, first, client)),
        incoming(
            did(38), caller=MOBILE, by="callee", rang=("152",), extension="152", last_extension="152",
            **times(second, second, second),
        ),
    ]  # fmt: skip


@kind("out-and-in-by-another-trunk")
async def out_and_in(s: Scene) -> list[Truth]:
    """150 calls a number of the company by the first trunk; it comes back by the second, and 152 answers: two calls."""
    one, two = s.desk("150"), s.desk("152")
    far, near = s.outside(), s.outside(SECOND_TRUNK)
    caller = one.call(f"+{did(38)}")
    out = await far.called()
    back = near.call(did(38), number="375172000001")
    leg = await two.rings()
    await back.rings()
    out.ring()
    await sleep(1)
    leg.answer()
    await back.answers()
    out.answer()
    await caller.answers()
    await sleep(2)
    caller.hang_up()
    await out.ends()
    back.hang_up()
    await leg.ends()
    return [
        Truth(
            direction="outgoing", caller="150", called=f"+{did(38)}", result="answered", hung_up_by="caller",
            extension="150", last_extension="150", **times(out, out, caller),
        ),
        incoming(
            did(38), caller="+375172000001", trunk=SECOND_TRUNK, rang=("152",), extension="152", last_extension="152",
            **times(leg, leg, back),
        ),
    ]  # fmt: skip
