"""The sandbox agrees with the best-known client of the REST API, where they meet: so tests against it say something of Salesforce."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests
import trio
from requests.adapters import HTTPAdapter

from tests.sandbox.salesforce import IVAN, Salesforce

simple_salesforce = pytest.importorskip("simple_salesforce")


class Plain(HTTPAdapter):
    """The client knows https alone; the sandbox listens on loopback without."""

    def send(self, request: Any, *args: Any, **more: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, *args, **more)


@contextlib.contextmanager
def plain_session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://127.0.0.1", Plain())
        yield session


def drive(host: str, token: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with plain_session() as session:
        client = simple_salesforce.Salesforce(session_id=token, instance=host, version="68.0", session=session)
        lead = client.Lead.create({"LastName": "+375291112233", "Company": "June", "Phone": "+375291112233"})
        found["lead"] = lead["id"]
        fields = {"Subject": "Call", "Status": "Completed", "WhoId": lead["id"], "OwnerId": IVAN, "CallObject": "pbx/1"}
        found["made"] = client.Task.upsert("GwCallId__c/pbx%2F1", fields)
        found["again"] = client.Task.upsert("GwCallId__c/pbx%2F1", {"Subject": "Call 2"})
        task = client.Task.get_by_custom_id("GwCallId__c", "pbx/1")
        found["task"] = task["Subject"]
        statement = simple_salesforce.format_soql("SELECT Id FROM Task WHERE CallObject = {}", "pbx/1")
        found["query"] = [one["Id"] for one in client.query_all(statement)["records"]]
        search = client.search(
            'FIND {"375291112233"} IN PHONE FIELDS RETURNING Lead(Id, Phone WHERE IsConverted = false) LIMIT 20'
        )
        found["search"] = [one["Id"] for one in search["searchRecords"]]
        found["limits"] = client.limits()["DailyApiRequests"]["Max"]
        found["usage"] = client.api_usage["api-usage"].total
        found["describe"] = {one["name"] for one in client.Task.describe()["fields"]} >= {"CallType", "GwCallId__c"}
        for name, wrong in (("malformed", {"Nope": 1, "Status": "Completed"}), ("status", {"Status": "Nope"})):
            try:
                client.Task.create(wrong)
            except simple_salesforce.SalesforceMalformedRequest as error:
                found[name] = error.content[0]["errorCode"]
        try:
            client.Task.get("00T000000000999")
        except simple_salesforce.SalesforceResourceNotFound as error:
            found["missing"] = error.content[0]["errorCode"]
        late = simple_salesforce.Salesforce(session_id="wrong", instance=host, version="68.0", session=session)
        try:
            late.query("SELECT Id FROM Task")
        except simple_salesforce.SalesforceExpiredSession as error:
            found["expired"] = error.content[0]["errorCode"]
    return found


async def test_the_client_works_with_the_sandbox(org: Salesforce) -> None:
    org.index_lag_s = 0.0
    org.access = {"a-session"}
    host = org.base.removeprefix("http://")
    with trio.fail_after(20):
        found = await trio.to_thread.run_sync(partial(drive, host, "a-session"))
    (task,) = org.tasks
    assert found == {
        "lead": org.leads[0]["Id"], "made": 201, "again": 200, "task": "Call 2", "query": [task["Id"]], "search": [org.leads[0]["Id"]],
        "limits": 100_000, "usage": 100_000, "describe": True, "malformed": "INVALID_FIELD",
        "status": "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "missing": "NOT_FOUND", "expired": "INVALID_SESSION_ID",
    }  # fmt: skip
    assert org.violations == []


async def test_the_client_signs_in_at_the_sandbox(org: Salesforce) -> None:
    """By client credentials: Basic, a form, the organisation's address in the answer."""

    def sign_in() -> tuple[str, str]:
        from simple_salesforce.login import token_login

        with plain_session() as session:
            found: tuple[str, str] = token_login(
                f"{org.base.replace('http://', 'https://')}/services/oauth2/token", {"grant_type": "client_credentials"},
                "127.0.0.1", org.CLIENT_ID, {"Authorization": basic()}, None, session,
            )  # fmt: skip
            return found

    def basic() -> str:
        return requests.auth._basic_auth_str(org.CLIENT_ID, org.client_secret)

    with trio.fail_after(20):
        token, instance = await trio.to_thread.run_sync(sign_in)
    assert {token} == org.access
    assert org.base.endswith(instance) or instance == "127.0.0.1"
