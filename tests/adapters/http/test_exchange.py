"""Tokens over the wire: read raw, written nowhere; and answers that are read raw, while what is shown is masked."""

import json
import logging
from typing import Any

import pytest

from adapters import base
from adapters.base import Attempt, Delivered, Finding
from adapters.http import Answer, Http, Misread, Timeouts
from gateway.domain.errors import BadCredentials, Rejected, Unavailable
from gateway.domain.secret import Secret
from tests.adapters.conftest import Remote, Reply, as_json
from tests.adapters.http.test_http import everything_of

CALM = Timeouts(connect_s=2, read_s=0.3, whole_s=0.5)
KEY = "Canary-key-1"
OLD, NEW = "Canary/refresh+old~1234567890", "Canary.eyJhbGciOiJIUzI1NiJ9.fresh_9876543210"


def client(remote: Remote) -> Http:
    return Http(remote.url, dial=None, timeouts=CALM, secrets=[Secret(KEY)])


async def test_a_token_that_the_answer_repeats_is_read_as_it_is(
    remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    remote.replies = [as_json({"access_token": NEW, "refresh_token": OLD, "client_secret": KEY})]
    async with client(remote) as http:
        found = await http.exchange(
            "POST", "/oauth/token", form={"refresh_token": OLD, "client_secret": KEY}, read=lambda answer: answer.json()
        )
        assert found == {"access_token": NEW, "refresh_token": OLD, "client_secret": KEY}
        assert remote.seen[0].form()["refresh_token"] == OLD
        assert "Canary" not in caplog.text + repr(http)


def quotes(answer: Answer) -> Any:
    raise BadCredentials(f"refused: {answer.text}", person=f"You sent {answer.text}")


def stumbles(answer: Answer) -> Any:
    return int(answer.text)


def misses(answer: Answer) -> Any:
    return dict[str, int]()[answer.text]


def chains(answer: Answer) -> Any:
    try:
        return json.loads(answer.text + "{")
    except ValueError as error:
        raise Rejected(f"no JSON: {error} {answer.text}") from error


@pytest.mark.parametrize("read", [quotes, stumbles, misses, chains])
async def test_no_error_of_an_exchange_holds_a_token(
    remote: Remote, read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    remote.replies = [as_json({"access_token": NEW, "echo": [OLD, {"x": KEY}], "error": "invalid_grant"})]
    async with client(remote) as http:
        with pytest.raises((BadCredentials, Rejected, Misread)) as raised:
            await http.exchange("POST", "/t", payload={"deep": [{"refresh_token": OLD}]}, read=read)
    shown = "\n".join(everything_of(raised.value)) + caplog.text
    assert "anary" not in shown
    assert "fresh_98" not in shown
    if read is quotes:
        assert "invalid_grant" in str(raised.value), "the code of the refusal is still there"


@pytest.mark.parametrize("reply", [Reply(drop=True), Reply(hang=True)])
async def test_nor_does_trouble_on_the_wire(remote: Remote, reply: Reply) -> None:
    remote.replies = [reply]
    async with client(remote) as http:
        with pytest.raises(Unavailable) as raised:
            await http.exchange(
                "POST",
                f"/t/{OLD}",
                headers={"authorization": f"Basic {NEW}"},
                form={"t": OLD},
                read=lambda answer: answer,
            )
    assert not raised.value.certain
    assert "anary" not in "\n".join(everything_of(raised.value))


async def test_an_answer_is_read_raw_and_what_is_shown_of_it_is_masked(remote: Remote) -> None:
    """A secret that is a number would have made another text, or no JSON, of an answer that was masked first."""
    secret = "1234"
    remote.replies = [as_json({"id": 1234, "echo": secret})] * 4
    attempt = Attempt(kind="k", key="1", lane="c", body={})
    async with Http(remote.url, dial=None, timeouts=CALM, secrets=[secret]) as http:
        found = await http.send("GET", "/x", read=lambda answer: answer.json(), attempt=attempt)
        assert found == {"id": 1234, "echo": "1234"}
        assert attempt.response == '{"id": ***, "echo": "***"}'
        delivered = await http.send(
            "GET", "/x", read=lambda answer: Delivered(reference=str(answer.json()["id"]), note="n", detail=answer.text)
        )
        assert delivered == Delivered(reference="1234", note="n", detail='{"id": ***, "echo": "***"}')
        tested = await http.send(
            "GET", "/x", read=lambda answer: base.Tested(True, "ok", answer.text, (Finding(True, "a", answer.text),))
        )
        assert "1234" not in repr(tested)
        with pytest.raises(Rejected) as raised:
            await http.send("GET", "/x", read=quotes_as_rejected)
    assert "1234" not in "\n".join(everything_of(raised.value)).replace(":1234", "")


def quotes_as_rejected(answer: Answer) -> Any:
    raise Rejected(answer.text, person=answer.text)
