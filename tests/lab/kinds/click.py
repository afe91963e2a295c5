"""Calls that the PBX places for an employee, in every form an originate has. Read `transfers.py` next."""

from uuid import uuid4

from trio import sleep

from tests.lab.kinds.truth import Truth, internal, kind, outgoing, times
from tests.lab.machine import CLIENT, Scene
from tests.lab.sip import Leg

LOCAL = {"Channel": "Local/150@inoffice", "Context": "inoffice", "Exten": CLIENT, "Priority": "1"}
PAIRS = {"Channel": "Local/150@inoffice", "Application": "Dial", "Data": f"Local/{CLIENT}@inoffice"}
DIRECT = {"Channel": "PJSIP/150", "Context": "inoffice", "Exten": CLIENT, "Priority": "1"}


async def originate(s: Scene, headers: dict[str, str], **more: str) -> None:
    """Asks the PBX for the call, as a CRM would."""
    base = {"Timeout": "30000", "CallerID": f'"Click" <{CLIENT}>', "Async": "true"}
    await s.manager.act("Originate", **{**base, **headers, **more})


async def talked(s: Scene, headers: dict[str, str], *, audio: bool, by: str = "callee", **more: str) -> Truth:
    """The employee picks up, the client rings and answers, one of them hangs up."""
    one, line = s.smart_redirect("150"), s.outside()
    one.audio = line.audio = audio
    if headers:
        await originate(s, headers, **more)
    else:
        await s.manager.act("Command", Command=f"channel originate PJSIP/150 extension {CLIENT}@inoffice")
    leg = await one.rings()
    await sleep(1)
    leg.answer()
    far = await line.rings()
    await sleep(1.5)
    far.answer()
    await sleep(2.5)
    end, other = (far, leg) if by == "callee" else (leg, far)
    end.hang_up()
    await other.ends()
    return outgoing(by=by, rang=("150",), **times(far, far, end))


@kind("click-pairs-silent")
async def click_pairs(s: Scene) -> Truth:
    """Two Local pairs, no sound: they live as long as the call."""
    return await talked(s, PAIRS, audio=False)


@kind("click-pairs-optimised")
async def click_pairs_optimised(s: Scene) -> Truth:
    """Two Local pairs that give way in the talk; 150 hangs up."""
    return await talked(s, PAIRS, audio=True, by="caller")


@kind("click-pair-silent")
async def click_pair(s: Scene) -> Truth:
    """One Local pair, no sound."""
    return await talked(s, LOCAL, audio=False)


@kind("click-pair-optimised")
async def click_pair_optimised(s: Scene) -> Truth:
    """One Local pair that gives way; 150 hangs up."""
    return await talked(s, LOCAL, audio=True, by="caller")


@kind("click-no-pair")
async def click_no_pair(s: Scene) -> Truth:
    """Straight to the phone; 150 hangs up."""
    return await talked(s, DIRECT, audio=True, by="caller")


@kind("click-own-ids")
async def click_own_ids(s: Scene) -> Truth:
    """One Local pair whose channels have ids of ours."""
    name = f"gw-{uuid4()}"
    return await talked(s, LOCAL, audio=True, ChannelId=name, OtherChannelId=f"{name}-2")


@kind("click-own-id-no-pair")
async def click_own_id(s: Scene) -> Truth:
    """Straight to the phone, the channel has an id of ours."""
    return await talked(s, DIRECT, audio=True, ChannelId=f"gw-{uuid4()}")


@kind("click-command-line")
async def click_command(s: Scene) -> Truth:
    """By the command line of the PBX, without any caller id."""
    return await talked(s, {}, audio=True)


@kind("click-employee-as-caller-id")
async def click_employee_caller_id(s: Scene) -> Truth:
    """The caller id given is the employee's own."""
    return await talked(s, LOCAL, audio=True, CallerID='"Ivan" <150>')


async def not_talked(s: Scene, headers: dict[str, str], employee: str, far: str = "", **more: str) -> Leg | None:
    """A click that comes to nothing: what the employee does, and what becomes of the client's side.

    Where the client's side fails it is the PBX that hangs up on the employee, who is on the line."""
    one, line = s.smart_redirect("150"), s.outside()
    await originate(s, headers, **more)
    leg = await one.called()
    if employee == "busy":
        leg.refuse()
        return None
    leg.ring()
    if employee != "silent":
        await sleep(1)
    match employee:
        case "silent":
            await leg.ends()
            return None
        case "declines":
            leg.refuse(603, "Decline")
            return None
    leg.answer()
    other = await line.called()
    match far:
        case "busy":
            other.refuse()
        case "wrong":
            other.refuse(404, "Not Found")
        case "declines":
            other.ring()
            await sleep(1)
            other.refuse(603, "Decline")
        case "rings":
            other.ring()
            await sleep(2)
            leg.hang_up()
            await other.ends()
        case "early":
            await sleep(1)
            leg.hang_up()
            await other.ends()
    await leg.ends()
    return leg


@kind("click-employee-silent")
async def click_silent(s: Scene) -> Truth:
    """150 does not pick up."""
    await not_talked(s, DIRECT, "silent", Timeout="3000")
    return outgoing("cancelled", by="system", trunk=None, rang=("150",))


@kind("click-pair-employee-silent")
async def click_pair_silent(s: Scene) -> Truth:
    """150 does not pick up, behind a Local pair."""
    await not_talked(s, LOCAL, "silent", Timeout="3000")
    return outgoing("cancelled", by="system", trunk=None, rang=("150",))


@kind("click-employee-busy")
async def click_busy(s: Scene) -> Truth:
    """The phone of 150 says busy: every called phone did."""
    await not_talked(s, DIRECT, "busy")
    return outgoing("busy", by="caller", trunk=None)


@kind("click-pair-employee-busy")
async def click_pair_busy(s: Scene) -> Truth:
    """The phone of 150 says busy, behind a Local pair."""
    await not_talked(s, LOCAL, "busy")
    return outgoing("busy", by="caller", trunk=None)


@kind("click-employee-declines")
async def click_declines(s: Scene) -> Truth:
    """150 presses the red button."""
    await not_talked(s, LOCAL, "declines")
    return outgoing("cancelled", by="caller", trunk=None, rang=("150",))


@kind("click-client-busy")
async def click_client_busy(s: Scene) -> Truth:
    """The client's number says busy."""
    await not_talked(s, LOCAL, "answers", "busy")
    return outgoing("busy", by="system", rang=("150",))


@kind("click-pairs-client-busy")
async def click_pairs_client_busy(s: Scene) -> Truth:
    """The client's number says busy, behind two Local pairs."""
    await not_talked(s, PAIRS, "answers", "busy")
    return outgoing("busy", by="system", rang=("150",))


@kind("click-client-declines")
async def click_client_declines(s: Scene) -> Truth:
    """It rings at the client's, who presses the red button."""
    await not_talked(s, DIRECT, "answers", "declines")
    return outgoing("no_answer", by="system", rang=("150",))


@kind("click-client-no-answer")
async def click_no_answer(s: Scene) -> Truth:
    """It rings at the client's; 150 gives up."""
    await not_talked(s, LOCAL, "answers", "rings")
    return outgoing("no_answer", rang=("150",))


@kind("click-wrong-number")
async def click_wrong_number(s: Scene) -> Truth:
    """The provider says 404."""
    await not_talked(s, LOCAL, "answers", "wrong")
    return outgoing("failed", by="system", rang=("150",))


@kind("click-gave-up-before-ring")
async def click_gave_up(s: Scene) -> Truth:
    """150 hangs up before anything rang at the client's."""
    await not_talked(s, DIRECT, "answers", "early")
    return outgoing("cancelled", rang=("150",))


@kind("click-transferred-blind", audio=True)
async def click_transferred(s: Scene) -> Truth:
    """150 talks with the client and transfers him to 152, who answers."""
    one, line = s.smart_redirect("150"), s.outside()
    await originate(s, LOCAL)
    leg = await one.rings()
    await sleep(1)
    leg.answer()
    far = await line.rings()
    await sleep(1)
    far.answer()
    await sleep(2)
    leg.transfer("152")
    third = await s.smart_redirect("152").rings()
    await sleep(1)
    third.answer()
    await sleep(1.5)
    third.hang_up()
    await far.ends()
    return outgoing(rang=("150", "152"), last_extension="152", transfers=(("150", "152"),), **times(far, far, third))


@kind("click-colleague", audio=True)
async def click_colleague(s: Scene) -> Truth:
    """A click on a colleague's number: an internal call of 150."""
    one, other = s.smart_redirect("150"), s.smart_redirect("152")
    await originate(s, DIRECT, Exten="152", CallerID='"Click" <152>')
    leg = await one.rings()
    await sleep(1)
    leg.answer()
    far = await other.rings()
    await sleep(1)
    far.answer()
    await sleep(1.5)
    far.hang_up()
    await leg.ends()
    return internal(
        "152", by="callee", rang=("150", "152"), extension="152", last_extension="152", **times(far, far, far)
    )
