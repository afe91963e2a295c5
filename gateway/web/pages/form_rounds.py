"""One round of a set-up form: read, checked, tested, and either accepted or shown again with its errors.

Settings are tested before they are stored; a person who knows better saves them all the same ("save anyway"). Secrets that
were typed wait, sealed, with the form that was not accepted (`gateway/web/session/flash.py`). Read `setup.py` for the form.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from quart import request

from adapters.base import AdapterSettings, Tested, secret_fields
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK, Secret
from gateway.domain.text import texts_of
from gateway.web.pages.setup import LONGEST_VALUE, SetupForm
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, read_flash, read_tested
from gateway.web.session.surroundings import flashed
from gateway.web.site import tenant

Probe = Callable[[Mapping[str, Any]], Awaitable[Tested]]
_OURS = frozenset({"csrf", "pending", "anyway"})


async def read_round(
    gate: Gate, model: type[AdapterSettings], stored: Mapping[str, Any], probe: Probe | None, *, at: str = "",
    more: Mapping[str, Any] | None = None,
) -> tuple[AdapterSettings | None, Flash]:  # fmt: skip
    """What was sent as valid settings that work, or None and the form to lead back to. Without `probe` nothing is
    tested: what is switched off may be saved as it is. `more` goes into its body; a key
    `problem` there refuses the form by itself."""
    number, sent = tenant().number, {name: str(value) for name, value in (await request.form).items()}
    pending = await read_flash(gate.site.deps, gate.token(), sent.get("pending", ""), tenant=number)
    if pending is not None and pending.kind == "form":
        for name, secret in pending.secrets.items():
            if sent.get(name, "").strip() == MASK:
                sent[name] = secret.reveal()
    form = SetupForm.of(model, stored, sent, at)
    hidden = {at + (model.model_fields[name].alias or name) for name in secret_fields(model)}
    typed = {name: Secret(sent[name].strip()) for name in hidden if sent.get(name, "").strip() not in ("", MASK)}
    body: dict[str, Any] = {
        "values": {name: value[:LONGEST_VALUE] for name, value in sent.items() if name not in _OURS and name not in typed},
        "problems": {name: dict(one) for name, one in form.problems.items()}, "errors": [dict(one) for one in form.errors],
        **(more or {}),
        "empty": [one.name for one in form.wrong if one.widget == "secret"],
    }  # fmt: skip
    flash = Flash(
        kind="form", body=body, secrets={n: v for n, v in typed.items() if n.removeprefix(at) not in body["empty"]}
    )
    if form.settings is None or (more or {}).get("problem"):
        return None, flash
    if probe is not None and sent.get("anyway") != "1":
        values = form.settings.model_dump(by_alias=True)
        tested = await probe({**values, **{name: getattr(form.settings, name) for name in secret_fields(model)}})
        if not tested.ok:
            body["tested"] = asdict(tested)
            return None, flash
    return form.settings, flash


def form_at(home: str, flash: Flash) -> str:
    """Where the form is shown again: at its panel, or at the page alone where a field is wrong and so gets the focus.
    Browsers ignore `autofocus` where the address has a fragment."""
    return home if flash.body["problems"] else f"{home}#setup"


def with_problems(flash: Flash, refused: Invalid) -> Flash:
    """The form to show again where the store refused fields that were valid by themselves."""
    problems = {name: dict(texts_of(text)) for name, text in refused.problems}
    empty = sorted({*flash.body["empty"], *(name for name in problems if name in flash.secrets)})
    secrets = {name: value for name, value in flash.secrets.items() if name not in problems}
    return replace(flash, body={**flash.body, "problems": problems, "empty": empty}, secrets=secrets)


def form_shown(
    model: type[AdapterSettings], stored: Mapping[str, Any], at: str = ""
) -> tuple[SetupForm, Tested | None]:
    """The form of this page: the stored settings, or what was not accepted a moment ago with the test it failed."""
    if (flash := flashed("form")) is None:
        return SetupForm.of(model, stored), None
    return SetupForm.again(model, stored, flash, at), read_tested(flash.body.get("tested"))
