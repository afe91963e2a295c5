"""`gateway apply` and `gateway export`: declared, declared again, exported, masked, pruned.

Over 400 lines: most of them are files that are refused.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Command

TOKEN = "0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse"
SECRETS = ("ami-secret", "crm-key", "700100200:AAE-telegram", TOKEN, PASSWORD, "client-id-of-ours")


def june(**changes: Any) -> dict[str, Any]:
    block: dict[str, Any] = {
        "number": "0367", "name": "June", "token": TOKEN, "timezone": "Europe/Minsk", "country": "BY", "language": "ru",
        "users": [{"email": "Admin@june.example", "password": PASSWORD}],
        "phones": [{"number": "150", "owner": "Анна"}, {"number": "151", "endpoints": ["151", "DAHDI/7", "Анна дома"]}],
        "pbxes": [{
            "name": "main", "host": "127.0.0.1", "username": "gateway", "secret": "ami-secret",
            "trunks": ["trunk-0001", "DAHDI/33", "North line"], "originate_context": "inoffice",
        }],
        "click_to_call": {"countries": ["BY"], "per_user_minute": 5},
        "integrations": {
            "retailcrm": {
                "domain": "https://example.retailcrm.ru", "api_key": "crm-key",
                "client_id": f"client-id-of-ours-{changes.get('number', '0367')}-0123456789",
                "user_extensions": {"19": "150", "22": None}, "send_events": {"in": False},
            },
            "telegram": {"enabled": False, "bot_token": "700100200:AAE-telegram", "notify_chats": [-1001234567890]},
        },
    }  # fmt: skip
    return block | changes


def write(folder: Path, *blocks: dict[str, Any], name: str = "tenants.yaml") -> str:
    file = folder / name
    file.write_text(yaml.safe_dump({"tenants": list(blocks)}, allow_unicode=True), "utf-8")
    return str(file)


@pytest.mark.slow
def test_apply_tells_what_it_does_and_does_it_once(command: Command, installation: Path) -> None:
    file = write(installation, june())
    dry = command("apply", "--dry-run", file)
    assert (dry.code, dry.lines[-1]) == (0, "7 would change")
    first = command("apply", file)
    assert (first.code, first.err) == (0, "")
    assert first.lines[:-1] == dry.lines[:-1]
    assert first.lines == [
        "tenant 0367: created",
        "tenant 0367: phone 150 added",
        "tenant 0367: phone 151 added",
        "tenant 0367: pbxes.main added",
        "tenant 0367: integrations.retailcrm added",
        "tenant 0367: integrations.telegram added",
        "tenant 0367: user admin@june.example added",
        "7 changed",
    ]
    again = command("apply", file)
    assert (again.code, again.out) == (0, "nothing to change\n")
    assert command("apply", "--dry-run", file).out == "nothing to change\n"


def test_a_change_is_told_by_field_and_never_by_value(command: Command, installation: Path) -> None:
    assert command("apply", write(installation, june())).code == 0
    changed = june(name="July", phones=[{"number": "150", "owner": "Ольга"}])
    changed["pbxes"][0] |= {"secret": "another-secret", "enabled": False}
    changed["integrations"]["retailcrm"]["api_key"] = "another-key"
    changed["users"][0]["password"] = "battery staple"
    reported = command("apply", write(installation, changed))
    assert reported.lines == [
        "tenant 0367: name changed",
        "tenant 0367: phone 150 changed",
        "tenant 0367: pbxes.main enabled, secret changed",
        "tenant 0367: integrations.retailcrm api_key changed",
        "tenant 0367: user admin@june.example password changed",
        "5 changed",
    ]
    assert "phone 151" not in reported.out  # without --prune what is not named stays
    assert "151" in command("export", "0367").out


def test_a_map_that_the_file_does_not_name_stays(command: Command, installation: Path) -> None:
    """People fill it in on a page of ours; a file without it must not take their work away."""
    assert command("apply", write(installation, june())).code == 0
    silent = june()
    del silent["integrations"]["retailcrm"]["user_extensions"]
    assert command("apply", write(installation, silent)).out == "nothing to change\n"
    stored = yaml.safe_load(command("export", "0367").out)["tenants"][0]["integrations"]["retailcrm"]
    assert stored["user_extensions"] == {"19": "150", "22": None}
    emptied = june()
    emptied["integrations"]["retailcrm"]["user_extensions"] = {}
    assert "user_extensions changed" in command("apply", write(installation, emptied)).out


def test_export_masks_and_apply_of_the_mask_keeps(command: Command, installation: Path) -> None:
    assert command("apply", write(installation, june())).code == 0
    masked = command("export", "0367")
    assert masked.code == 0
    for secret in SECRETS:
        assert secret not in masked.out
    file = installation / "masked.yaml"
    file.write_text(masked.out, "utf-8")
    assert command("apply", str(file)).out == "nothing to change\n"
    assert command("apply", "--prune", str(file)).out == "nothing to change\n"
    revealed = command("export", "0367", "--reveal")
    shown = yaml.safe_load(revealed.out)["tenants"][0]
    assert shown["pbxes"][0]["secret"] == "ami-secret"
    assert shown["integrations"]["retailcrm"]["api_key"] == "crm-key"
    assert shown["integrations"]["retailcrm"]["client_id"] == "client-id-of-ours-0367-0123456789"
    assert (shown["token"], shown["users"][0]["password"]) == ("***", "***")  # only hashes are kept
    assert TOKEN not in revealed.out
    assert PASSWORD not in revealed.out


def test_the_key_of_a_companys_own_model_is_sealed_and_masked(command: Command, installation: Path) -> None:
    ai = {
        "enabled": True,
        "llm": {"url": "https://llm.example/v1", "api_key": "sk-of-june"},
        "allow_links": ["june.example"],
    }
    masked_first = june(ai={"enabled": True, "llm": {"api_key": "***"}})
    assert "ai.llm.api_key: *** keeps the stored secret" in command("apply", write(installation, masked_first)).err
    assert command("apply", write(installation, june(ai=ai))).code == 0
    assert command("apply", write(installation, june(ai=ai))).out == "nothing to change\n"
    masked = command("export", "0367")
    assert "sk-of-june" not in masked.out
    assert yaml.safe_load(masked.out)["tenants"][0]["ai"]["llm"] == {"url": "https://llm.example/v1", "api_key": "***"}
    file = installation / "masked.yaml"
    file.write_text(masked.out, "utf-8")
    assert command("apply", str(file)).out == "nothing to change\n"
    revealed = yaml.safe_load(command("export", "0367", "--reveal").out)["tenants"][0]
    assert revealed["ai"] == ai
    changed = ai | {"llm": {"url": "https://llm.example/v1", "api_key": "sk-another"}}
    told = command("apply", write(installation, june(ai=changed))).out
    assert told == "tenant 0367: secrets changed\n1 changed\n"
    assert command("apply", write(installation, june(ai={"enabled": True}))).code == 0
    assert yaml.safe_load(command("export", "0367", "--reveal").out)["tenants"][0]["ai"] == {"enabled": True}
    trail = command("audit", "0367").out
    assert "sk-of-june" not in trail + told
    assert "sk-another" not in trail


def test_export_into_another_installation(command: Command, installation: Path) -> None:
    assert command("apply", write(installation, june())).code == 0
    block = yaml.safe_load(command("export", "0367", "--reveal").out)["tenants"][0]
    moved = block | {"number": "0368", "token": TOKEN[::-1], "users": []}
    moved["integrations"]["retailcrm"]["client_id"] = "one-of-its-own-0123456789abcdef"
    assert command("apply", write(installation, moved)).code == 0
    there = yaml.safe_load(command("export", "0368", "--reveal").out)["tenants"][0]
    assert there == {key: value for key, value in moved.items() if key != "users"} | {"token": "***"}


def test_a_client_id_is_made_once(command: Command, installation: Path) -> None:
    block = june()
    del block["integrations"]["retailcrm"]["client_id"]
    file = write(installation, block)
    assert command("apply", file).code == 0

    def client_id() -> str:
        shown = yaml.safe_load(command("export", "0367", "--reveal").out)["tenants"][0]
        return str(shown["integrations"]["retailcrm"]["client_id"])

    made = client_id()
    assert len(made) >= 32
    assert command("apply", file).out == "nothing to change\n"
    assert client_id() == made


def test_a_client_id_is_one_integrations_alone(command: Command, installation: Path) -> None:
    """Whoever entered another company's id would have its calls placed and its statuses set."""
    mine = june()["integrations"]["retailcrm"]["client_id"]
    other = june(number="0368", token=TOKEN[::-1])
    other["integrations"]["retailcrm"]["client_id"] = mine
    for blocks in ((june(), other), (other,)):
        refused = command("apply", write(installation, *blocks))
        assert refused.code == 1
        assert "tenants[" in refused.err
        assert "client ids must differ" in refused.err
        assert mine not in refused.err
        assert command("apply", write(installation, june())).code == 0
    del other["integrations"]["retailcrm"]["client_id"]
    assert command("apply", write(installation, other)).code == 0


def test_a_client_id_that_somebody_chooses_has_24_characters(command: Command, installation: Path) -> None:
    block = june()
    block["integrations"]["retailcrm"]["client_id"] = "x" * 23
    refused = command("apply", write(installation, block))
    assert (refused.code, "integrations.retailcrm.client_id: must be at least 24 characters" in refused.err) == (
        1,
        True,
    )
    block["integrations"]["retailcrm"]["client_id"] = "x" * 24
    assert command("apply", write(installation, block)).code == 0
    block["integrations"]["retailcrm"]["client_id"] = "***"
    assert command("apply", write(installation, block)).out == "nothing to change\n"


def test_prune_removes_what_is_not_named_but_never_a_tenant(command: Command, installation: Path) -> None:
    other = june(number="0368", token=TOKEN[::-1])
    assert command("apply", write(installation, june(), other)).code == 0
    bare = {key: value for key, value in june(phones=[{"number": "150", "owner": "Анна"}]).items() if key != "users"}
    bare |= {"pbxes": [], "integrations": {}}
    file = write(installation, bare)
    dry = command("apply", "--prune", "--dry-run", file)
    assert (dry.code, len(dry.lines)) == (0, 6)
    pruned = command("apply", "--prune", file)
    assert sorted(pruned.lines[:-1]) == [
        "tenant 0367: integrations.retailcrm removed",
        "tenant 0367: integrations.telegram removed",
        "tenant 0367: pbxes.main removed",
        "tenant 0367: phone 151 removed",
        "tenant 0367: user admin@june.example removed",
    ]
    assert yaml.safe_load(command("export", "0368").out)["tenants"][0]["integrations"].keys() == {
        "retailcrm",
        "telegram",
    }


TEN_MISTAKES = {
    "timezone": "Minsk",
    "country": "Belarus",
    "language": "by",
    "token": "too short",
    "phone": "+375",
    "users": [{"email": "nobody", "password": "short"}],
    "phones": [{"number": "one"}],
    "pbxes": [{"name": "main hall", "host": "http://pbx", "username": "gateway", "secret": "x", "prot": 5038}],
    "integrations": {"retailcrm": {"domain": "https://e.retailcrm.ru/admin", "api_key": 12345}, "amo": {}},
}


def test_every_mistake_is_told_with_its_path_and_nothing_changes(command: Command, installation: Path) -> None:
    good, bad = june(number="0368"), june(**TEN_MISTAKES)
    ran = command("apply", write(installation, good, bad))
    assert (ran.code, ran.out) == (1, "")
    places = [line.removeprefix("gateway: ").partition(": ")[0] for line in ran.errors]
    assert set(places[:-1]) == {
        "tenants[1].timezone",
        "tenants[1].country",
        "tenants[1].language",
        "tenants[1].token",
        "tenants[1].phone",
        "tenants[1].users[0].email",
        "tenants[1].users[0].password",
        "tenants[1].phones[0].number",
        "tenants[1].pbxes[0].name",
        "tenants[1].pbxes[0].host",
        "tenants[1].pbxes[0].prot",
        "tenants[1].integrations.retailcrm.domain",
        "tenants[1].integrations.retailcrm.api_key",
        "tenants[1].integrations.amo",
    }
    assert len(places) == len(set(places))
    assert ran.errors[-1] == f"gateway: {len(places) - 1} problems; nothing was changed"
    assert "too short" not in ran.err.replace("too short or", "")
    assert "12345" not in ran.err
    assert command("export", "0368").errors == ["gateway: no tenant 0368"]


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (june(token="***"), "tenants[0].token: *** keeps the stored token, and none is stored"),
        (
            june(users=[{"email": "a@june.example", "password": "***"}]),
            "tenants[0].users[0].password: *** keeps the stored password, and none is stored",
        ),
        (
            june(pbxes=[{"name": "main", "host": "pbx", "username": "u", "secret": "***"}]),
            "tenants[0].pbxes[0].secret: field required",
        ),
    ],
)
def test_a_mask_without_anything_stored(
    block: dict[str, Any], problem: str, command: Command, installation: Path
) -> None:
    ran = command("apply", write(installation, block))
    assert ran.errors == [f"gateway: {problem}", "gateway: 1 problems; nothing was changed"]


def test_two_tenants_never_share_a_token(command: Command, installation: Path) -> None:
    assert command("apply", write(installation, june())).code == 0
    ran = command("apply", write(installation, june(number="0368")))
    assert ran.code == 1
    assert ran.errors[0].startswith("gateway: tenants[0].token: another tenant has this token")


def test_problems_of_several_files_name_their_file(command: Command, installation: Path) -> None:
    first = write(installation, june(country="Belarus"), name="first.yaml")
    second = write(installation, june(number="0368", name=""), name="second.yaml")
    ran = command("apply", first, second, str(installation / "third.yaml"))
    assert [line.partition(" tenants")[0].partition(": No")[0] for line in ran.errors[:-1]] == [
        f"gateway: {first}:", f"gateway: {second}:", f"gateway: {installation / 'third.yaml'}",
    ]  # fmt: skip


def test_a_secret_sealed_with_another_master_key(command: Command, installation: Path, expected_errors: None) -> None:
    assert command("apply", write(installation, june())).code == 0
    (installation / "master.key").write_text(command("keys", "new").out)
    for arguments in (("export", "0367", "--reveal"), ("apply", write(installation, june(name="July")))):
        ran = command(*arguments)
        assert (ran.code, ran.out, len(ran.errors)) == (1, "", 1)
        assert "master key" in ran.err


@pytest.mark.slow
def test_doctor_finds_what_is_wrong(command: Command, installation: Path) -> None:
    block = june(pbxes=[{"name": "main", "host": "127.0.0.1", "port": 1, "username": "u", "secret": "ami-secret"}])
    block["integrations"] = {"retailcrm": {"domain": "https://127.0.0.1", "api_key": "k" * 32}}
    block["language"] = "ru"
    assert command("apply", write(installation, block)).code == 0
    ran = command("doctor")
    assert ran.code == 1
    assert [line[:4].strip() for line in ran.lines] == ["ok", "ok", "ok", "ok", "FAIL", "FAIL"]
    assert ran.lines[-2].startswith("FAIL  Asterisk main of tenant 0367: ")
    assert "RetailCRM does not answer" in ran.lines[-1], "in English, whatever the company's language"
    assert "ami-secret" not in ran.out
    (installation / "master.key").unlink()
    assert any(line.startswith("FAIL  master key: ") for line in command("doctor").lines)


@pytest.mark.slow
def test_people(command: Command, installation: Path) -> None:
    assert command("apply", write(installation, june(users=[]))).code == 0
    added = command("user", "add", "Anna@June.example", "--tenant", "0367", stdin=f"{PASSWORD}\n")
    assert (added.code, added.out) == (0, "anna@june.example: added (0367)\n")
    again = command("user", "add", "anna@june.example", "--tenant", "0367", stdin=f"{PASSWORD}\n")
    assert again.out == "anna@june.example: new password set (0367)\n"
    assert command("user", "add", "op@gateway.example", "--operator", stdin=f"{PASSWORD}\n").code == 0
    link = command("user", "link", "anna@june.example", "--tenant", "0367")
    assert link.out.startswith("http://127.0.0.1:8000/")
    alone = command("user", "link", "Anna@June.example")  # as the README prints it
    assert (alone.code, alone.out[:42]) == (0, link.out[:42])
    assert "token=0367." in alone.out
    assert "token=-." in command("user", "link", "op@gateway.example").out
    assert command("user", "link", "nobody@june.example").errors == [
        "gateway: no such person: nobody@june.example; gateway user add makes one"
    ]
    assert command("user", "add", "anna@june.example", "--operator", stdin=f"{PASSWORD}\n").code == 0
    assert command("user", "link", "anna@june.example").errors == [
        "gateway: anna@june.example has 2 accounts: say which by --operator or --tenant 0367"
    ]
    assert command("user", "add", "x", "--operator", stdin=f"{PASSWORD}\n").code == 2
    assert command("user", "add", "a@b.example", "--operator", stdin="short\n").code == 2
    assert command("user", "add", "a@b.example", "--tenant", "9999", stdin=f"{PASSWORD}\n").code == 1
    assert command("user", "link", "nobody@june.example", "--tenant", "0367").code == 1


def test_migrate_has_nothing_left_to_do(command: Command, installation: Path) -> None:
    assert command("migrate").out == "0 applied; the schema is up to date\n"


def test_recordings_and_messages_are_kept_as_the_file_says(command: Command, installation: Path) -> None:
    block = june(recordings={"keep_days": 30, "posted": True}, chats={"keep_days": 90})
    block["pbxes"][0] |= {
        "recording_url": "https://pbx.example/{file}", "recording_user": "u", "recording_password": "rec-secret",
    }  # fmt: skip
    file = write(installation, block)
    assert command("apply", file).code == 0
    exported = yaml.safe_load(command("export", "0367").out)["tenants"][0]
    assert exported["recordings"] == {"keep_days": 30, "posted": True}
    assert exported["chats"] == {"keep_days": 90}
    assert exported["pbxes"][0]["recording_password"] == "***"
    assert command("apply", file).out == "nothing to change\n"
    assert command("apply", write(installation, june())).lines[0].endswith("options changed")
    plain = yaml.safe_load(command("export", "0367").out)["tenants"][0]
    assert not {"recordings", "chats"} & set(plain)
    block["chats"] = {"keep_days": 4000}
    block["recordings"] = {"keep_days": 0, "for_ever": True}
    block["pbxes"][0]["recording_url"] = "https://{file}/x"
    refused = command("apply", write(installation, block))
    assert refused.code != 0
    for place in ("chats.keep_days", "recordings.keep_days", "recordings.for_ever", "pbxes[0].recording_url"):
        assert f"tenants[0].{place}" in refused.err


def test_internal_numbers_are_judged(command: Command, installation: Path) -> None:
    """What reads as an emergency, service or outside number is refused with its place, and nothing is changed."""
    phones = [{"number": number} for number in ("150", "101", "02", "7", "1234567", "375902123456")]
    retailcrm = june()["integrations"]["retailcrm"] | {"user_extensions": {"19": "150", "20": 112}}
    block = june(phones=phones, smart_redirect={"default": "911"}, integrations={"retailcrm": retailcrm})
    refused = command("apply", "--dry-run", write(installation, block))
    assert refused.code == 1
    for place, word in (
        ("phones[1].number", "101 is an emergency number in BY"), ("phones[2].number", "02 is an emergency number"),
        ("phones[3].number", "2 to 6 digits"), ("phones[4].number", "2 to 6 digits"), ("phones[5].number", "2 to 6 digits"),
        ("smart_redirect.default", "911 is an emergency"),
        ("integrations.retailcrm.user_extensions.20", "112 is an emergency number in BY"),
    ):  # fmt: skip
        assert any(f"{place}: " in line and word in line for line in refused.errors), (place, refused.err)
    allowed = june(phones=[{"number": "150"}, {"number": "12345678"}], internal_numbers={"longest": 8})
    assert command("apply", "--dry-run", write(installation, allowed)).code == 0


def two_of_each(number: str = "0367") -> dict[str, Any]:
    """Two bots, two accounts of a CRM and two PBXes in one company."""
    block = june(number=number)
    crm, bot, pbx = block["integrations"]["retailcrm"], block["integrations"]["telegram"], block["pbxes"][0]
    block["integrations"]["retailcrm:branch"] = crm | {
        "api_key": "branch-key",
        "client_id": "client-id-of-the-branch-0123456789",
    }
    block["integrations"]["telegram:support"] = bot | {"bot_token": "700100201:AAE-support", "enabled": True}
    block["pbxes"].append(pbx | {"name": "branch", "secret": "branch-secret"})
    return block


def test_several_of_a_kind(command: Command, installation: Path) -> None:
    reported = command("apply", write(installation, two_of_each()))
    assert (reported.code, reported.err) == (0, "")
    for key in ("retailcrm", "retailcrm:branch", "telegram", "telegram:support"):
        assert f"tenant 0367: integrations.{key} added" in reported.lines
    export = command("export", "0367", "--reveal").out
    found = yaml.safe_load(export)["tenants"][0]["integrations"]
    assert (found["telegram"]["bot_token"], found["telegram"]["enabled"]) == ("700100200:AAE-telegram", False)
    assert (found["telegram:support"]["bot_token"], found["telegram:support"]["enabled"]) == (
        "700100201:AAE-support",
        True,
    )
    assert (found["retailcrm"]["api_key"], found["retailcrm:branch"]["api_key"]) == ("crm-key", "branch-key")
    masked = write(installation, yaml.safe_load(command("export", "0367").out)["tenants"][0])
    assert command("apply", masked).out == "nothing to change\n"
    fewer = two_of_each()
    del fewer["integrations"]["telegram:support"]
    assert (
        "tenant 0367: integrations.telegram:support removed"
        in command("apply", "--prune", write(installation, fewer)).lines
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("telegram:", "KIND:NAME"),
        ("telegram:Support", "KIND:NAME"),
        ("telegram:a b", "KIND:NAME"),
        ("nobody:x", "no such"),
    ],
)
def test_a_wrong_key_is_named(command: Command, installation: Path, key: str, words: str) -> None:
    block = june()
    block["integrations"][key] = block["integrations"]["telegram"]
    refused = command("apply", write(installation, block))
    assert refused.code == 1
    assert f"tenants[0].integrations.{key}: " in refused.err
    assert words in refused.err


def test_what_is_missing_says_where_the_outside_system_shows_it(command: Command, installation: Path) -> None:
    ran = command(
        "apply", write(installation, june(integrations={"viber": {"sender_name": "June"}, "vk": {"group_id": "1"}}))
    )
    assert len(ran.errors) == 3
    assert ran.errors[0].startswith(
        "gateway: tenants[0].integrations.viber.auth_token: field required: Viber Admin Panel"
    )
    assert ran.errors[1].startswith(
        "gateway: tenants[0].integrations.vk.access_token: field required: In the community: Manage"
    )
