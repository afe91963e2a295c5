"""The module's requests and answers, in tables: what is sent whole, and what an answer may look like."""

import json
from typing import Any

import pytest

from adapters.abilities import CrmUser, HeldExtensions, Registration, RegistrationPlace, Responsible
from adapters.retailcrm import modules
from adapters.retailcrm.callbacks import read_activity
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.errors import BadCredentials, BadSettings, RateLimited, Rejected
from gateway.domain.posts import Invalid
from gateway.domain.secret import Secret

PLACE = RegistrationPlace(
    public_url="https://gw.example",
    logo_url="https://gw.example/static/logo.svg",
    account_url=Secret("https://gw.example/retailcrm-admin/?enterprise_number=0367&token=a.b.c"),
)


def settings(**more: Any) -> RetailcrmSettings:
    values = {"domain": "https://june.retailcrm.ru", "api_key": "k", "client_id": "c" * 43, **more}
    return RetailcrmSettings.model_validate(values)


def test_the_module_goes_whole() -> None:
    form = modules.edit_form(settings(), PLACE, {"100": "151", "19": "150"}, active=True)
    assert form.keys() == {"integrationModule"}
    code = modules.module_code(settings())
    assert json.loads(form["integrationModule"]) == {
        "code": code, "integrationCode": "telephony-gateway", "name": "Telephony gateway", "active": True,
        "freeze": False, "logo": "https://gw.example/static/logo.svg", "clientId": "c" * 43,
        "baseUrl": "https://gw.example", "actions": {"activity": "/retailcrm/activity"},
        "accountUrl": "https://gw.example/retailcrm-admin/?enterprise_number=0367&token=a.b.c",
        "integrations": {"telephony": {
            "makeCallUrl": "https://gw.example/retailcrm/make-call",
            "changeUserStatusUrl": "https://gw.example/retailcrm/status", "allowEdit": False,
            "inputEventSupported": True, "outputEventSupported": True, "hangupEventSupported": True,
            "additionalCodes": [{"userId": 19, "code": "150"}, {"userId": 100, "code": "151"}],
        }},
    }  # fmt: skip
    assert modules.edit_path(settings()) == f"/api/v5/integration-modules/{code}/edit"


def test_an_empty_map_is_sent_too() -> None:
    form = modules.edit_form(settings(), PLACE, {}, active=False, freeze=True)
    module = json.loads(form["integrationModule"])
    assert module["integrations"]["telephony"]["additionalCodes"] == []
    assert (module["active"], module["freeze"]) == (False, True)


def test_the_code_stays_with_the_connection_and_tells_nothing() -> None:
    code = modules.module_code(settings())
    assert code == modules.module_code(settings(domain="https://other.retailcrm.ru"))
    assert code != modules.module_code(settings(client_id="d" * 43))
    assert len(code) == len("gateway-") + 12
    assert modules.module_code(settings(module_code="old-one")) == "old-one"
    with pytest.raises(ValueError):
        settings(module_code="../x")


@pytest.mark.parametrize(
    ("answer", "held", "unknown"),
    [
        ({"success": True, "info": []}, {"19": "150", "7": "151"}, ()),
        ({"success": True}, {"19": "150", "7": "151"}, ()),
        ({"success": True, "info": {"notExistUsersIds": [7]}}, {"19": "150"}, ("7",)),
        ({"success": True, "info": {"notExistUsersIds": ["7"], "notExistSiteCodes": []}}, {"19": "150"}, ("7",)),
        ({"success": True, "info": {"notExistUsersIds": {"1": 7}}}, {"19": "150"}, ("7",)),
        ({"success": True, "info": None}, {"19": "150", "7": "151"}, ()),
    ],
)
def test_answers_to_an_edit(answer: dict[str, Any], held: dict[str, str], unknown: tuple[str, ...]) -> None:
    made = modules.read_edited(200, json.dumps(answer), {"19": "150", "7": "151"})
    assert made == HeldExtensions(extensions=held, unknown_users=unknown)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, {"success": False, "errorMsg": "Errors in the entity format", "errors": {"logo": "x"}}, Rejected),
        (200, {"success": False, "errorMsg": "Failed to activate module", "errors": ["No funds"]}, BadSettings),
        (403, {"success": False, "errorMsg": 'Wrong "apiKey" value.'}, BadCredentials),
        (503, {"success": False, "errorMsg": "Rate limit exceeded"}, RateLimited),
    ],
)
def test_refused_edits(status: int, answer: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        modules.read_edited(status, json.dumps(answer), {})


def test_the_module_read_back() -> None:
    telephony = {"additionalCodes": [{"userId": "19", "code": "150"}, {"userId": 18, "code": 151}, {"code": "1"}, None]}
    module = {"active": True, "integrations": {"telephony": telephony}}
    read = modules.read_module(200, json.dumps({"success": True, "integrationModule": module}))
    assert read == Registration(active=True, held=HeldExtensions(extensions={"19": "150", "18": "151"}))
    bare = modules.read_module(200, json.dumps({"success": True, "integrationModule": {"freeze": True}}))
    assert bare == Registration(active=False, held=HeldExtensions())
    assert modules.read_module(404, json.dumps({"success": False, "errorMsg": "Not found"})) is None
    with pytest.raises(Rejected):
        modules.read_module(404, json.dumps({"success": False, "errorMsg": "API method not found"}))
    with pytest.raises(BadSettings):
        modules.read_module(404, "<html>")


def test_users() -> None:
    rows = [
        {"id": 19, "firstName": "Иван", "lastName": "Петров", "email": "i@june.example", "active": True,
         "status": "free", "groups": [{"id": 1, "name": "Продажи", "code": "sales"}, {"code": "all"}, "x", None]},
        {"id": "18", "firstName": None, "email": "a@june.example", "active": False, "status": "away", "groups": None},
        {"id": None, "firstName": "Nobody"}, "nonsense",
        {"id": 7},
    ]  # fmt: skip
    answer = {"success": True, "users": rows, "pagination": {"totalPageCount": 2, "currentPage": 1}}
    page = modules.read_users(200, json.dumps(answer), 1)
    assert not page.last
    assert page.users == (
        CrmUser(
            user_id="19", name="Иван Петров", email="i@june.example", groups=("Продажи", "all", "x"), status="free"
        ),
        CrmUser(user_id="18", name="a@june.example", email="a@june.example", active=False),
        CrmUser(user_id="7", name="7"),
    )
    assert modules.read_users(200, json.dumps({**answer, "users": []}), 1).last
    assert modules.read_users(200, json.dumps(answer), 2).last
    assert modules.users_path(2) == "/api/v5/users?limit=100&page=2"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"manager": {"id": 7, "firstName": "Anna", "code": "101"}}, Responsible(extension="101", user_id="7", name="Anna")),
        ({"manager": {"id": 19, "firstName": "Anna", "lastName": "K"}}, Responsible(user_id="19", name="Anna K")),
        ({"manager": {"id": 22}}, Responsible(user_id="22")),
        ({"manager": {"id": 8, "code": None}}, Responsible(user_id="8")),
        ({"manager": {"code": "101"}}, Responsible(extension="101")),
        ({"manager": None, "customer": {"id": 1}}, None),
        ({"manager": []}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_who_is_responsible(answer: dict[str, Any], expected: Responsible | None) -> None:
    read = modules.read_responsible(200, json.dumps({"success": True, **answer}))
    assert read == expected
    path = modules.manager_path("+375291112233", any_status=False)
    assert path == "/api/v5/telephony/manager?phone=375291112233&details=1&ignoreStatus=0"


@pytest.mark.parametrize("user", ["", "../7", "7/x", "٧", "1" * 19])
def test_only_ids_get_into_a_path(user: str) -> None:
    with pytest.raises(Rejected):
        modules.status_path(user)
    assert modules.status_path("19") == "/api/v5/users/19/status"


@pytest.mark.parametrize(
    ("activity", "active"),
    [
        ('{"active": true, "freeze": false}', True),
        ('{"active": false, "freeze": false}', False),
        ('{"active": true, "freeze": true}', False),
        ({"active": False}, False),
    ],
)
def test_activity(activity: Any, active: bool) -> None:
    requested = read_activity({"clientId": "c", "activity": activity, "systemUrl": "https://june.retailcrm.ru"})
    assert (requested.client_id, requested.active) == ("c", active)


@pytest.mark.parametrize("activity", ["", "no", "[]", '{"active": "yes"}', '{"active": 1}', None, "[" * 900])
def test_bad_activity(activity: Any) -> None:
    with pytest.raises(Invalid):
        read_activity({"clientId": "c", "activity": activity})


def test_outside_numbers_go_with_their_shops() -> None:
    form = modules.edit_form(settings(external_phones={"+74951230000": "shop-a"}), PLACE, {}, active=True)
    telephony = json.loads(form["integrationModule"])["integrations"]["telephony"]
    assert telephony["externalPhones"] == [{"siteCode": "shop-a", "externalPhone": "74951230000"}]
    without = json.loads(modules.edit_form(settings(), PLACE, {}, active=True)["integrationModule"])
    assert "externalPhones" not in without["integrations"]["telephony"]
    for bad in ({"12": "shop"}, {"74951230000": "a shop"}, {"7495123000x": "shop"}):
        with pytest.raises(ValueError, match="code of a shop"):
            settings(external_phones=bad)
