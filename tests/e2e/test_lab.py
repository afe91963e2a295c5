"""Real calls on a real Asterisk through the whole product, each judged by what the strict sandbox CRM was told.

Three labs side by side, with a few kinds each; `make lab` plays all of them.
"""

from pathlib import Path

import pytest
import trio

from tests.e2e.world import open_world
from tests.lab.kinds.truth import DIRECT, MOBILE, did
from tests.lab.machine import ROOTS, missing, running_lab
from tests.lab.play import Stage

KINDS = {
    ("22", "lab"): (
        "incoming-answered", "incoming-busy", "queue-locals-rung-twice", "outgoing-wrong-number", "click-pairs-optimised",
        "redirect-talking", "attended-phone", "park-comes-back", "forward-302-mobile", "call-waiting",
    ),
    ("22", "lab-ro"): ("incoming-gave-up", "click-no-pair", "pickup-group", "blonde-feature-code", "same-client-twice"),
    ("16", "lab"): ("blind-phone", "conference", "click-pair-silent", "outgoing-second-trunk-after-failure"),
}  # fmt: skip
OFFSETS = {("22", "lab"): 340, ("22", "lab-ro"): 360, ("16", "lab"): 380}

pytestmark = [
    pytest.mark.lab,
    pytest.mark.long,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(missing()), reason=missing() or "ready"),
]


async def test_real_calls_are_told_to_the_crm_as_they_were(tmp_path: Path) -> None:
    wrong: dict[str, list[str]] = {}

    async def play(version: str, user: str) -> None:
        folder = tmp_path / f"{version}-{user}"
        folder.mkdir()
        async with running_lab(version, OFFSETS[version, user], user) as lab, open_world(folder) as world:
            stage = Stage(world, lab)
            await stage.prepare()
            for name in KINDS[version, user]:
                if problems := await stage.play(name):
                    wrong[f"{version} {user} {name}"] = problems
            if world.crm.repeats:
                wrong[f"{version} {user}"] = [f"told more than once: {dict(world.crm.repeats)}"]

    async with trio.open_nursery() as nursery:
        for version, user in KINDS:
            if (ROOTS[version] / ".lab-asterisk-done").exists():
                nursery.start_soon(play, version, user)
    assert wrong == {}


async def test_asterisk_killed_in_the_middle_of_calls_leaves_no_ghost(tmp_path: Path) -> None:
    """Every channel vanishes without a Hangup: the calls end uncertain, once, and the next call is told right."""
    async with running_lab("22", 340) as lab, open_world(tmp_path) as world:
        stage = Stage(world, lab)
        await stage.prepare()
        async with lab.scene() as scene:
            client = scene.outside().call(DIRECT)
            talks = await scene.smart_redirect("150").rings()
            await trio.sleep(0.5)
            talks.answer()
            await client.answers()
            scene.outside().call(did(38), number=MOBILE)
            await scene.smart_redirect("152").rings()
            await trio.sleep(0.5)
            await lab.crash()
            await trio.sleep(1)
            await lab.start()
        with trio.fail_after(30):
            while len(await stage.ended()) < 2:
                await trio.sleep(0.1)
        assert await stage.play("incoming-answered") == []
        calls = await stage.ended()
        assert [(call["result"], call["uncertain"]) for call in calls[:2]] == [("answered", True), ("missed", True)]
        assert [call["uncertain"] for call in calls[2:]] == [False]
        uploads = {upload.data["externalId"]: upload.data["result"] for upload in world.crm.uploads}
        assert [uploads[call["call_id"]] for call in calls] == ["unknown", "unknown", "answered"]
        assert len(world.crm.uploads) == 3
