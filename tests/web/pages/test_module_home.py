"""What the page that the CRM opens has beside the internal numbers, and its JSON test of the connection."""

import pytest

from tests.web.pages.test_extensions import ADMIN, Stage, stage
from tests.web.world import CSRF

__all__ = ["stage"]


async def test_the_connection_is_tested_as_json(stage: Stage) -> None:
    await stage.register()
    client, csrf = await stage.visitor()
    answer = await client.post(f"{ADMIN}/api/test/0367", headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 200
    body = await answer.get_json()
    assert (body["success"], body["code"], body["findings"]) == (True, "not_testable", [])
    assert "error" not in body
    assert (await client.post(f"{ADMIN}/api/test/0367")).status_code == 403
    assert (await client.post(f"{ADMIN}/api/test/0368", headers={"X-CSRF-Token": csrf})).status_code == 403


@pytest.mark.parametrize("address", ["config", "save-extensions"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"), (b"  ", ""), (b"{", "application/json"), (b"\xff\xfe", "application/json"),
        (b"--x\r\nContent-Disp", "multipart/form-data; boundary=x"), (b"a", "multipart/form-data"),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_read_is_named(stage: Stage, address: str, body: bytes, kind: str) -> None:
    await stage.register()
    client, csrf = await stage.visitor()
    send = client.put if address == "config" else client.post
    answer = await send(f"{ADMIN}/api/{address}/0367", data=body, headers={"X-CSRF-Token": csrf, "Content-Type": kind})
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    found = await answer.get_json()
    assert (found["code"], [one["field"] for one in found["errors"]]) == ("VALIDATION_ERROR", ["body"])


async def test_forms_of_both_kinds_are_read(stage: Stage) -> None:
    await stage.register()
    person, mine = await stage.person(), {"X-CSRF-Token": CSRF}
    answer = await person.put(f"{ADMIN}/api/config/0367", form={"enabled": "false"}, headers=mine)
    assert (await answer.get_json())["enabled"] is False
    body = b'--b\r\nContent-Disposition: form-data; name="enabled"\r\n\r\ntrue\r\n--b--\r\n'
    headers = {**mine, "Content-Type": "multipart/form-data; boundary=b"}
    answer = await person.put(f"{ADMIN}/api/config/0367", data=body, headers=headers)
    assert (await answer.get_json())["enabled"] is True
