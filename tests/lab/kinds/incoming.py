"""Clients who call: ring groups, hunting, menus, voicemail. Read `forwarding.py` next."""

from trio import sleep

from tests.lab.kinds.truth import DIRECT, GROUP, Truth, did, incoming, kind, times
from tests.lab.machine import Scene

BOTH = ("150", "151")


@kind("group-callee-hangs-up")
async def group_callee_hangs_up(s: Scene) -> Truth:
    """150 and 151 ring; 151 answers and hangs up."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
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
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
    client = s.outside().call(did(36))
    await one.rings(), await two.rings()
    await client.ends()
    return incoming(did(36), "missed", by="system", rang=BOTH)


@kind("group-one-busy")
async def group_one_busy(s: Scene) -> Truth:
    """151 says busy, 150 answers."""
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
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
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
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
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
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
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
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
    one = s.smart_redirect("150")
    client = s.outside().call(DIRECT)
    first = await one.rings()
    await sleep(1.5)
    first.refuse()
    await client.ends()
    return incoming(DIRECT, "busy", by="callee", rang=("150",))


@kind("group-one-without-phone")
async def group_one_without_phone(s: Scene) -> Truth:
    """157 is not registered, 150 answers."""
    one = s.smart_redirect("150")
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
    one = s.smart_redirect("150")
    client = s.outside().call(DIRECT)
    (await one.called()).refuse(503, "Service Unavailable")
    await client.ends()
    return incoming(DIRECT, "missed", by="callee")


@kind("hunting-second-group-answers")
async def hunting_answered(s: Scene) -> Truth:
    """150 and 151 ring three seconds, then 152 and 153; 153 answers."""
    phones = [s.smart_redirect(number) for number in ("150", "151", "152", "153")]
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
    phones = [s.smart_redirect(number) for number in ("150", "151", "152", "153")]
    client = s.outside().call(did(10))
    for phone in phones:
        await phone.rings()
    await client.ends()
    return incoming(did(10), "missed", by="system", rang=("150", "151", "152", "153"))


@kind("hunting-gave-up-in-second")
async def hunting_gave_up(s: Scene) -> Truth:
    """The client gives up while the second group rings."""
    phones = [s.smart_redirect(number) for number in ("150", "151", "152", "153")]
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
    one = s.smart_redirect("150")
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
    one = s.smart_redirect("150")
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
    one = s.smart_redirect("150")
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
    one, two = s.smart_redirect("150"), s.smart_redirect("151")
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
    one = s.smart_redirect("150")
    client = s.outside().call(did(19))
    (await one.called()).refuse()
    await client.answers()
    await sleep(3)
    client.hang_up()
    return incoming(did(19), "busy")


@kind("voicemail-on-no-answer")
async def voicemail_on_no_answer(s: Scene) -> Truth:
    """150 does not answer, voicemail takes a message: missed."""
    one = s.smart_redirect("150")
    client = s.outside().call(did(19))
    await one.rings()
    await client.answers()
    await sleep(3)
    client.hang_up()
    return incoming(did(19), "missed", rang=("150",))
