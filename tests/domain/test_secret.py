"""A secret never shows itself, wherever it ends up, and still is what it was."""

import copy
import json
import logging
import pickle
import traceback

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.domain.secret import MASK, Secret, masked

PLAIN = "hunter2-and-a-bit-more"


class Model(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    key: Secret


@pytest.fixture
def secret() -> Secret:
    return Secret(PLAIN)


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>40}",
        lambda secret: f"{secret:>40}",
        lambda secret: "{}".format(secret),  # noqa: UP032
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: str({"key": secret, "list": [secret], "set": {secret}}),
        lambda secret: str(ValueError(secret)),
        lambda secret: repr(Model(key=secret)),
        lambda secret: str(Model(key=secret).model_dump(mode="json")),
        lambda secret: repr(Model(key=secret).model_dump()),
        lambda secret: Model(key=secret).model_dump_json(),
        lambda secret: json.dumps({"key": secret}, default=str),
        lambda secret: logging.makeLogRecord({"msg": "key %s", "args": (secret,)}).getMessage(),
    ],
)
def test_it_prints_as_stars(secret: Secret, show: object) -> None:
    assert callable(show)
    text = show(secret)
    assert PLAIN not in text
    assert MASK in text


def test_it_is_not_in_a_traceback_that_shows_values(secret: Secret) -> None:
    try:
        raise RuntimeError(f"refused: {secret}")
    except RuntimeError as error:
        reported = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert PLAIN not in reported


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_never_pickled(secret: Secret, protocol: int) -> None:
    with pytest.raises(TypeError, match="never pickled") as raised:
        pickle.dumps({"key": secret}, protocol)
    assert PLAIN not in str(raised.value)


def test_it_is_never_copied(secret: Secret) -> None:
    with pytest.raises(TypeError):
        copy.copy(secret)


def test_json_does_not_know_it(secret: Secret) -> None:
    with pytest.raises(TypeError) as raised:
        json.dumps(secret)
    assert PLAIN not in str(raised.value)


def test_it_has_no_dictionary_to_look_into(secret: Secret) -> None:
    assert not hasattr(secret, "__dict__")


def test_what_pydantic_refuses_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as raised:
        Model.model_validate({"key": [PLAIN]})
    assert PLAIN not in str(raised.value)


def test_a_model_takes_text_and_keeps_the_secret(secret: Secret) -> None:
    for model in (
        Model(key=secret),
        Model.model_validate({"key": PLAIN}),
        Model.model_validate_json(f'{{"key": "{PLAIN}"}}'),
    ):
        assert model.key == secret
        assert model.key.reveal() == PLAIN


def test_equality_is_by_value_and_with_secrets_alone(secret: Secret) -> None:
    assert secret == Secret(PLAIN)
    assert hash(secret) == hash(Secret(PLAIN))
    assert secret != Secret(PLAIN + " ")
    assert secret != PLAIN
    assert Secret("\udcff") == Secret("\udcff")
    assert Secret("x")
    assert not Secret("")


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        (f"key={PLAIN}&x=1", (Secret(PLAIN),), "key=***&x=1"),
        (f"{PLAIN} {PLAIN}", (PLAIN,), "*** ***"),
        ("a b c", (Secret("b"), None, ""), "a b c"),  # too short to be told from ordinary text
    ],
)
def test_masked(text: str, secrets: tuple[Secret | str | None, ...], expected: str) -> None:
    assert masked(text, *secrets) == expected
