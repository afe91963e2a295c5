"""What the page that the CRM opens has beside the internal numbers, and its JSON test of the connection."""

import html
import re

import pytest

from tests.web.conftest import submitted
from tests.web.pages.test_extensions import ADMIN, KIND, Stage, stage
from tests.web.world import CSRF, JUNE, SECRET_KEY

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


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_the_page_has_all_that_its_buttons_do(stage: Stage, language: str) -> None:
    await stage.register()
    client, csrf = await stage.visitor()
    client.set_cookie("localhost", "language", language)
    page = html.unescape(await (await client.get(f"{ADMIN}/")).get_data(as_text=True))
    assert "June RetailCRM" in page
    assert stage.crm.base in page
    assert SECRET_KEY not in page
    assert "<dd>***</dd>" in page, "the key is there, masked"
    assert 'name="domain"' not in page
    assert 'name="api_key"' not in page
    assert f'href="/t/0367/integrations/{KIND}"' in page, "and leads to where they are changed"
    for words in {
        "en": ("Save and register", "Delete the integration", "Test the connection", "Last synchronisation"),
        "ru": ("Сохранить и зарегистрировать", "Удалить интеграцию", "Проверить связь", "Последняя синхронизация"),
    }[language]:
        assert words in page
    assert re.search(r'class="attempt"', page), "the registration itself is among the last attempts"

    form = {
        "csrf": csrf,
        "send_events.out": "1",
        "send_events.hangup": "1",
        "domain": "https://stolen.example",
        "do": "register",
    }
    told = len(stage.crm.modules)
    page = html.unescape(await submitted(client, f"{ADMIN}/settings", form))
    assert ("Done." if language == "en" else "Готово.") in page
    tenant = stage.world.cache.tenant(JUNE)
    assert tenant is not None
    settings = tenant.integrations[KIND].settings
    assert settings["send_events"] == {"in": False, "out": True, "hangup": True, "upload": False}
    assert settings["domain"] == stage.crm.base, "what is not shared stays, whatever is sent"
    assert len(stage.crm.modules) == told
    page = await submitted(client, f"{ADMIN}/test", {"csrf": csrf})
    assert ("Test passed." if language == "en" else "Проверка пройдена.") in page


async def test_deleting_asks_first_and_ends_the_session(stage: Stage) -> None:
    await stage.register()
    client, csrf = await stage.visitor()
    asked = await client.post(f"{ADMIN}/delete", form={"csrf": csrf})
    assert (asked.status_code, asked.location) == (303, f"{ADMIN}/delete")
    assert 'name="sure"' in await (await client.get(f"{ADMIN}/delete")).get_data(as_text=True)
    assert stage.module["active"] is True
    done = await client.post(f"{ADMIN}/delete", form={"csrf": csrf, "sure": "1"})
    assert done.status_code == 303
    assert (stage.module["active"], stage.module["freeze"]) == (False, True)
    assert (await client.get(f"{ADMIN}/")).status_code == 401


@pytest.mark.parametrize("address", ["settings", "test", "delete"])
async def test_no_button_without_the_session_or_its_form(stage: Stage, address: str) -> None:
    await stage.register()
    stranger = stage.app.test_client()
    assert (await stranger.post(f"{ADMIN}/{address}", form={"csrf": CSRF})).status_code == 401
    client, _ = await stage.visitor()
    assert (await client.post(f"{ADMIN}/{address}", form={"csrf": "x"})).status_code == 403
