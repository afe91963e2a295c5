"""The plain kinds, played by sipp, an independent telephone: its message logs say what happened. Read `incoming.py` next."""

from collections.abc import Callable
from functools import partial

import trio

from tests.lab.kinds.truth import ANSWER, DIRECT, GROUP, MENU, QUEUE, RECORDED, RINGING, Truth, kind
from tests.lab.kinds.truth import incoming as incoming_truth
from tests.lab.kinds.truth import outgoing as outgoing_truth
from tests.lab.machine import CLIENT, TRUNK, Party, Scene


def incoming(company: str, **more: object) -> Callable[..., Truth]:
    """A truth of an incoming call of CLIENT, its times to come."""
    return partial(incoming_truth, company, **more)  # type: ignore[arg-type] # the fields are the dataclass's


@kind("incoming-answered")
async def incoming_answered(scene: Scene) -> Callable[[], Truth]:
    """150 and 151 ring; 150 answers; the client hangs up."""
    first = await scene.phone("150", ring_s=2)
    await scene.phone("151", ring_s=60)
    client = await scene.client(CLIENT, GROUP, talk_s=3)
    reported = incoming(GROUP, result="answered", rang=("150", "151"), extension="150", last_extension="150")
    return lambda: reported(ring_at=first.sent(RINGING), answered_at=client.got(ANSWER), ended_at=client.sent("BYE"))


@kind("incoming-gave-up")
async def incoming_gave_up(scene: Scene) -> Callable[[], Truth]:
    """150 and 151 ring; the client gives up."""
    await scene.phone("150", ring_s=60)
    await scene.phone("151", ring_s=60)
    await scene.client(CLIENT, GROUP, gives_up_s=3)
    reported = incoming(GROUP, result="missed", rang=("150", "151"))
    return lambda: reported()


@kind("incoming-busy")
async def incoming_busy(scene: Scene) -> Callable[[], Truth]:
    """Both phones say busy."""
    await scene.refusing_phone("150")
    await scene.refusing_phone("151")
    await scene.client(CLIENT, GROUP)
    reported = incoming(GROUP, result="busy", by="system")
    return lambda: reported()


@kind("incoming-queue")
async def incoming_queue(scene: Scene) -> Callable[[], Truth]:
    """The PBX answers with music; 150 and 151 ring; 151 answers."""
    await scene.phone("150", ring_s=60)
    answers = await scene.phone("151", ring_s=2)
    client = await scene.client(CLIENT, QUEUE, talk_s=6)
    reported = incoming(
        QUEUE, queue="sales", result="answered", rang=("150", "151"), extension="151", last_extension="151"
    )
    return lambda: reported(
        ring_at=answers.sent(RINGING), answered_at=answers.sent(ANSWER), ended_at=client.sent("BYE")
    )


@kind("incoming-queue-abandoned")
async def incoming_queue_abandoned(scene: Scene) -> Callable[[], Truth]:
    """The PBX answers with music; nobody picks up; the client hangs up: missed, though the line was up."""
    await scene.phone("150", ring_s=60)
    await scene.phone("151", ring_s=60)
    await scene.client(CLIENT, QUEUE, talk_s=3)
    reported = incoming(QUEUE, queue="sales", result="missed", rang=("150", "151"))
    return lambda: reported()


@kind("incoming-menu")
async def incoming_menu(scene: Scene) -> Callable[[], Truth]:
    """The menu answers and waits two seconds; then 150 and 151 ring; 150 answers."""
    answers = await scene.phone("150", ring_s=2)
    await scene.phone("151", ring_s=60)
    client = await scene.client(CLIENT, MENU, talk_s=7)
    reported = incoming(MENU, result="answered", rang=("150", "151"), extension="150", last_extension="150")
    return lambda: reported(
        ring_at=answers.sent(RINGING), answered_at=answers.sent(ANSWER), ended_at=client.sent("BYE")
    )


@kind("incoming-recorded")
async def incoming_recorded(scene: Scene) -> Callable[[], Truth]:
    """MixMonitor writes a file; 151 answers and hangs up."""
    await scene.phone("150", ring_s=60)
    answers = await scene.phone("151", ring_s=2, talk_s=3)
    client = await scene.client(CLIENT, RECORDED, talk_s=60)
    reported = incoming(
        RECORDED, result="answered", rang=("150", "151"), extension="151", last_extension="151", by="callee"
    )
    return lambda: reported(ring_at=answers.sent(RINGING), answered_at=client.got(ANSWER), ended_at=answers.sent("BYE"))


def outgoing(**more: object) -> Callable[..., Truth]:
    """A truth of a call by 150 to CLIENT, its times to come."""
    return partial(outgoing_truth, **more)  # type: ignore[arg-type] # as above


@kind("outgoing-answered")
async def outgoing_answered(scene: Scene) -> Callable[[], Truth]:
    """150 dials; the client answers; 150 hangs up."""
    client = await scene.provider(ring_s=2)
    caller = await scene.employee("150", CLIENT, talk_s=3)
    reported = outgoing(result="answered", last_extension="150")
    return lambda: reported(ring_at=client.sent(RINGING), answered_at=caller.got(ANSWER), ended_at=caller.sent("BYE"))


@kind("outgoing-no-answer")
async def outgoing_no_answer(scene: Scene) -> Callable[[], Truth]:
    """It rings at the client's; 150 gives up."""
    await scene.provider(ring_s=60)
    await scene.employee("150", CLIENT, gives_up_s=3)
    reported = outgoing(result="no_answer")
    return lambda: reported()


@kind("outgoing-busy")
async def outgoing_busy(scene: Scene) -> Callable[[], Truth]:
    """The provider says 486."""
    await scene.refusing_provider(486, "Busy Here")
    await scene.employee("150", CLIENT)
    reported = outgoing(result="busy", by="callee")
    return lambda: reported()


@kind("outgoing-wrong-number")
async def outgoing_wrong_number(scene: Scene) -> Callable[[], Truth]:
    """The provider says 404."""
    await scene.refusing_provider(404, "Not Found")
    await scene.employee("150", CLIENT)
    reported = outgoing(result="failed", by="callee")
    return lambda: reported()


@kind("internal-answered")
async def internal_answered(scene: Scene) -> Callable[[], Truth]:
    """150 dials 151, who answers and hangs up."""
    called = await scene.phone("151", ring_s=1, talk_s=2)
    caller = await scene.employee("150", "151", talk_s=60)
    return lambda: Truth(
        direction="internal", caller="150", called="151", trunk=None, result="answered", hung_up_by="callee",
        rang=("151",), extension="151", last_extension="151", ring_at=called.sent(RINGING),
        answered_at=caller.got(ANSWER), ended_at=called.sent("BYE"),
    )  # fmt: skip


async def click(scene: Scene, client: Party, **headers: str) -> Callable[..., Truth]:
    """Originates a call for 150, who answers after a second and a half."""
    employee = await scene.phone("150", ring_s=1.5)
    await trio.sleep(0.4)
    await scene.manager.act("Originate", Timeout="30000", CallerID=f'"Click" <{CLIENT}>', Async="true", **headers)
    reported = outgoing(result="answered", rang=("150",), last_extension="150", by="callee")
    del employee
    return lambda: reported(ring_at=client.sent(RINGING), answered_at=client.sent(ANSWER), ended_at=client.sent("BYE"))


@kind("click-local-application")
async def click_application(scene: Scene) -> Callable[[], Truth]:
    """Two Local pairs: Channel Local, Application Dial of another Local."""
    client = await scene.provider(ring_s=2, talk_s=3)
    return await click(scene, client, Channel="Local/150@inoffice", Application="Dial", Data=f"Local/{CLIENT}@inoffice")


@kind("click-local-exten")
async def click_exten(scene: Scene) -> Callable[[], Truth]:
    """One Local pair: Channel Local, the client by Context and Exten."""
    client = await scene.provider(ring_s=2, talk_s=3)
    return await click(scene, client, Channel="Local/150@inoffice", Context="inoffice", Exten=CLIENT, Priority="1")


@kind("click-direct")
async def click_direct(scene: Scene) -> Callable[[], Truth]:
    """No Local channel at all."""
    client = await scene.provider(ring_s=2, talk_s=3)
    return await click(scene, client, Channel="PJSIP/150", Context="inoffice", Exten=CLIENT, Priority="1")


@kind("redirect-ringing")
async def redirect_ringing(scene: Scene) -> Callable[[], Truth]:
    """150 rings; Redirect sends the client to 152, who answers."""
    first = await scene.phone("150", ring_s=60)
    await scene.phone("152", ring_s=1.5)
    client = await scene.client(CLIENT, DIRECT, talk_s=3)
    channel = (await scene.event(Event="^Newchannel$", Channel=f"^PJSIP/{TRUNK}-"))["Channel"]
    await scene.event(Event="^DialState$", DialStatus="RINGING")
    await trio.sleep(1.5)
    await scene.manager.act("Redirect", Channel=channel, Context="inoffice", Exten="152", Priority="1")
    reported = incoming(DIRECT, result="answered", rang=("150", "152"), extension="152", last_extension="152")
    return lambda: reported(ring_at=first.sent(RINGING), answered_at=client.got(ANSWER), ended_at=client.sent("BYE"))


@kind("redirect-talking")
async def redirect_talking(scene: Scene) -> Callable[[], Truth]:
    """150 answers; Redirect sends the client to 152, who answers."""
    first = await scene.phone("150", ring_s=1)
    await scene.phone("152", ring_s=1)
    client = await scene.client(CLIENT, DIRECT, talk_s=6)
    channel = (await scene.event(Event="^Newchannel$", Channel=f"^PJSIP/{TRUNK}-"))["Channel"]
    await scene.event(Event="^BridgeEnter$", Channel=f"^PJSIP/{TRUNK}-")
    await trio.sleep(1.5)
    await scene.manager.act("Redirect", Channel=channel, Context="inoffice", Exten="152", Priority="1")
    reported = incoming(
        DIRECT,
        result="answered",
        rang=("150", "152"),
        extension="150",
        last_extension="152",
        transfers=(("150", "152"),),
    )
    return lambda: reported(ring_at=first.sent(RINGING), answered_at=client.got(ANSWER), ended_at=client.sent("BYE"))


@kind("blind-transfer-lost")
async def blind_transfer_lost(scene: Scene) -> Callable[[], Truth]:
    """150 answers and transfers to 152, who does not answer; the client hangs up: answered."""
    first = await scene.phone("150", ring_s=1)
    await scene.phone("152", ring_s=60)
    client = await scene.client(CLIENT, DIRECT, talk_s=5)
    bridged = await scene.event(Event="^BridgeEnter$", Channel="^PJSIP/150-")
    await trio.sleep(1.5)
    await scene.manager.act("BlindTransfer", Channel=bridged["Channel"], Context="inoffice", Exten="152")
    reported = incoming(DIRECT, result="answered", rang=("150", "152"), extension="150", last_extension="150")
    return lambda: reported(ring_at=first.sent(RINGING), answered_at=client.got(ANSWER), ended_at=client.sent("BYE"))
