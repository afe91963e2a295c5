"""Several devices, several lines, several calls at once, and holding. Read `queues.py` next."""

from typing import Any

from trio import sleep

from tests.lab.kinds.truth import DIRECT, MOBILE, Truth, did, incoming, kind, times
from tests.lab.machine import SECOND_TRUNK, Scene


@kind("second-device-answers", phones={"150": ["150"], "151": ["151", "anna-soft"]})
async def second_device(s: Scene) -> Truth:
    """151 has two devices that ring together; the softphone answers."""
    smart_redirect, soft = s.smart_redirect("151"), s.smart_redirect("151", "159")
    client = s.outside().call(did(35))
    first, second = await smart_redirect.rings(), await soft.rings()
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
    smart_redirect, soft = s.smart_redirect("151"), s.smart_redirect("151", "159")
    client = s.outside().call(did(35))
    first = await smart_redirect.rings()
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
    smart_redirect, soft = s.smart_redirect("151"), s.smart_redirect("151", "159")
    client = s.outside().call(did(35))
    first = await smart_redirect.rings()
    await soft.rings()
    await sleep(1.5)
    client.hang_up()
    await first.ends()
    return incoming(did(35), "missed", rang=("151",))


@kind("hold-and-back", audio=True)
async def hold_and_back(s: Scene) -> Truth:
    """150 puts the client on hold and takes him back: one talk."""
    one = s.smart_redirect("150")
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
    one = s.smart_redirect("150")
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
    one = s.smart_redirect("150")
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
    one = s.smart_redirect("150")
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
    one, line = s.smart_redirect("150"), s.outside()
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
    same: dict[str, Any] = {"rang": ("150",), "extension": "150", "last_extension": "150"}
    return [
        incoming(DIRECT, by="callee", **same, **times(first, first, first)),
        incoming(DIRECT, caller=MOBILE, **same, **times(second, second, other)),
    ]


@kind("call-waiting-missed")
async def call_waiting_missed(s: Scene) -> list[Truth]:
    """While 150 talks, a second client calls and gives up."""
    one, line = s.smart_redirect("150"), s.outside()
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
    one, two, line = s.smart_redirect("150"), s.smart_redirect("152"), s.outside()
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
    one, two = s.smart_redirect("150"), s.smart_redirect("152")
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
