"""Which model a company's AI asks: its own, or the installation's, whose key goes nowhere else."""

from actors.ai.tenant_ai import model_of
from adapters.http.addresses import SafeDialer
from adapters.llm.client import ModelSettings
from gateway.domain.ai import ModelBlock
from gateway.domain.secret import Secret

DIAL = SafeDialer()
OURS = ModelSettings(url="https://llm.gateway.example/v1", key=Secret("sk-of-the-installation"), model="gpt-5.2")


def test_what_a_company_leaves_out_is_the_installations() -> None:
    assert model_of(ModelBlock(), OURS, DIAL) == OURS
    found = model_of(ModelBlock(model="small", api="responses", api_key=Secret("sk-of-june")), OURS, DIAL)
    assert (found.url, found.model, found.api, found.key, found.dial) == (
        OURS.url,
        "small",
        "responses",
        Secret("sk-of-june"),
        None,
    )
    assert model_of(ModelBlock(), None, DIAL).url == ""


def test_the_installations_key_goes_to_its_own_server_alone() -> None:
    found = model_of(ModelBlock(url="https://llm.june.example/v1"), OURS, DIAL)
    assert (found.url, found.key, found.model) == ("https://llm.june.example/v1", None, "gpt-5.2")
    assert found.dial is DIAL, "an address of a company is judged"
    assert model_of(
        ModelBlock(url="https://llm.june.example/v1", api_key=Secret("sk-of-june")), OURS, DIAL
    ).key == Secret("sk-of-june")
