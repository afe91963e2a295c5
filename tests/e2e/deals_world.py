"""An installation between two strict portals whose deals it carries, and those who post events to it."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import trio

from tests.e2e.world import World
from tests.sandbox.bitrix24_deals import DealPortal

FORM = {"content-type": "application/x-www-form-urlencoded"}
STAGES = {"C1:NEW": "NEW", "C1:EXECUTING": "EXECUTING", "C1:WON": "WON", "C1:LOSE": "LOSE"}
MAPPING: Mapping[str, Any] = {
    "TITLE": "TITLE", "OPPORTUNITY": "OPPORTUNITY", "STAGE_ID": {"field": "STAGE_ID", "values": STAGES, "otherwise": "keep"},
    "UF_CRM_PARTNER_ID": "UF_CRM_SOURCE_ID", "SOURCE_DESCRIPTION": {"text": "Import from {source.domain}"},
    "UF_CRM_IMPORT_DATE": {"now": "iso"},
}  # fmt: skip


def scale(name: str, lean: int) -> int:
    """How much of something: lean by default, whole by the environment (`DEALS_WHOLE=1`, or the name itself)."""
    whole = {"DEALS": 5000, "SECONDS": 60, "KILLS": 20, "UPDATES": 1000}
    return int(os.environ.get(name) or (whole[name] if os.environ.get("DEALS_WHOLE") else lean))


@dataclass
class Between:
    """The world with both portals."""

    world: World
    partner: DealPortal = field(default_factory=lambda: DealPortal(domain="partner.example.com"))
    main: DealPortal = field(default_factory=lambda: DealPortal(domain="june.example.com"))
    statuses: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)

    def route(self, **more: Any) -> dict[str, Any]:
        """From the partner to us."""
        return {
            "name": "partner-to-main", "source": "bitrix24:partner", "target": "bitrix24", "allowed_domains": ["partner.example.com"],
            "application_token": "token-of-the-partner-01", "mapping": dict(MAPPING),
        } | more  # fmt: skip

    def back(self, **more: Any) -> dict[str, Any]:
        """From us to the partner."""
        return self.route(
            name="main-to-partner", source="bitrix24", target="bitrix24:partner", allowed_domains=["june.example.com"],
            application_token="token-of-june-0001", mapping={"TITLE": "TITLE", "OPPORTUNITY": "OPPORTUNITY"},
        ) | more  # fmt: skip

    async def apply(self, *routes: dict[str, Any]) -> str:
        """The company with both portals and these routes."""
        block = self.world.tenant(deal_routes=list(routes))
        block["integrations"] = {
            "bitrix24": {"webhook_url": self.main.webhook_url}, "bitrix24:partner": {"webhook_url": self.partner.webhook_url},
        }  # fmt: skip
        return await self.world.apply(block)

    async def post(self, client: httpx2.AsyncClient, body: bytes, **headers: str) -> httpx2.Response:
        """An event on the fast listener."""
        began = time.monotonic()
        answer = await client.post(f"{self.world.intake}/webhook/deal", content=body, headers={**FORM, **headers})
        self.took_s.append(time.monotonic() - began)
        if answer.status_code == 200:
            self.statuses[answer.json()["status"]] += 1
        return answer

    def partner_event(self, number: int, ts: int, name: str = "ONCRMDEALUPDATE") -> bytes:
        """Of the partner's portal."""
        return self.partner.event_body(name, number, ts, "token-of-the-partner-01")

    async def tell(self, numbers: Iterable[int], ts: int = 1_766_000_000, *, patient: bool = False) -> None:
        """Posts an event about each deal; the patient repeat it until it is answered."""
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
            for number in numbers:
                while True:
                    try:
                        if (await self.post(client, self.partner_event(number, ts))).status_code == 200:
                            break
                    except httpx2.TransportError:
                        pass
                    if not patient:
                        break
                    await trio.sleep(0.05)

    def carried(self, numbers: Iterable[int]) -> int:
        """How many deals of the partner are ours as they are there now."""
        ours = {str(one.get("ORIGIN_ID", "")).rpartition(":")[2]: one for one in self.main.entities["DEAL"].values()}
        theirs = self.partner.entities["DEAL"]
        return sum(
            (there := ours.get(str(number))) is not None
            and all(there.get(name) == theirs[number].get(name) for name in ("TITLE", "OPPORTUNITY"))
            for number in numbers
        )

    async def until_carried(self, numbers: list[int], within_s: float) -> None:
        """Raises AssertionError with what the gateway last said."""
        with trio.move_on_after(within_s):
            while self.carried(numbers) < len(numbers):
                await trio.sleep(0.2)
            return
        log = (self.world.folder / "gateway.log").read_text()[-4000:]
        raise AssertionError(f"{self.carried(numbers)} of {len(numbers)} in {within_s:g} s\n{log}")

    def report(self, title: str, **more: Any) -> None:
        """What was measured."""
        took = sorted(self.took_s) or [0.0]
        print("\n" + json.dumps({
            "what": title, **more, "answers": dict(self.statuses), "p50_ms": round(took[len(took) // 2] * 1000, 1),
            "p99_ms": round(took[min(len(took) - 1, len(took) * 99 // 100)] * 1000, 1),
            "requests": [self.partner.served, self.main.served], "doubled": len(self.main.doubles) + len(self.partner.doubles),
        }))  # fmt: skip
