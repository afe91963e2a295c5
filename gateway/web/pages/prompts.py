"""The pages of a company's prompts: the list, the editor with its sandbox, the history with differences.

    save, draft, check, try   one form; by JavaScript `check` answers JSON and `try` a stream, otherwise all lead on
    activate, restore, remove forms of their own

What was typed and not saved waits with the session's result, so that nothing of it is lost. Read
`gateway/web/content/prompts.py` for the operations, `gateway/web/static/prompts.js` for what JavaScript adds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from functools import partial
from typing import Any

import trio
from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from adapters.llm.protocol import ModelFailed
from gateway.domain.posts import Invalid
from gateway.domain.prompt_values import at_reading, values_of
from gateway.domain.prompts import LONGEST, MENU_KEYS, PROFILE_KEYS, Flaw, Variable, check_content, validation
from gateway.domain.text import texts_of
from gateway.store import prompts as store
from gateway.store.business_profiles import select_profile
from gateway.store.catalog_items import count_items
from gateway.store.prompts import PromptRow, VersionRow
from gateway.web.content import prompts
from gateway.web.content.prompts import read_variables, shown_flaws
from gateway.web.content.sandbox import Reply
from gateway.web.http.routes import Give
from gateway.web.http.streamed import streamed
from gateway.web.pages.catalog import shown_problems
from gateway.web.pages.confirm import confirm_page
from gateway.web.pages.live import sse
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer
from gateway.web.translations import Words

NEW = "new"
"""In place of an id: the prompt that is not saved yet."""
BLANK_ROWS = 3
"""Empty rows for further variables."""
_MOST_ROWS = 110
CONTEXT = 3
"""Equal lines that are shown around a difference."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a difference: `same`, `gone`, `new`, or `skip` for equal lines that are left out."""

    mark: str
    text: str = ""
    old: int | None = None
    new: int | None = None


def difference(old: str, new: str) -> list[Line]:
    """Two texts line by line, with some equal lines around what differs."""
    before, after = old.splitlines(), new.splitlines()
    made: list[Line] = []
    for place, group in enumerate(SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(CONTEXT)):
        if place or group[0][1]:
            made.append(Line("skip"))
        for tag, a, b, c, d in group:
            if tag == "equal":
                made += [Line("same", text, a + n + 1, c + n + 1) for n, text in enumerate(before[a:b])]
                continue
            made += [Line("gone", text, a + n + 1) for n, text in enumerate(before[a:b])]
            made += [Line("new", text, None, c + n + 1) for n, text in enumerate(after[c:d])]
    return made


def variables_of(form: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of variables in which something stands; the source follows from the key."""
    rows = []
    for place in range(_MOST_ROWS):
        key, label = form.get(f"var-key-{place}", "").strip(), form.get(f"var-label-{place}", "").strip()
        value = form.get(f"var-value-{place}", "").replace("\r\n", "\n")
        if key or label or value:
            source = "business_profile" if key in PROFILE_KEYS else "menu" if key in MENU_KEYS else "custom"
            rows.append({"key": key, "label": label, "default_value": value, "source": source})
    return rows


def prompts_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/prompts`."""
    pages = Blueprint("prompts", __name__, url_prefix="/t/<number>/prompts")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash)

    async def needed(prompt: str) -> PromptRow:
        found = await db.tenant(tenant().number, store.select_prompt, tenant().number, prompt)
        if found is None:
            abort(404)
        return found

    async def business_type() -> str:
        return (await db.tenant(tenant().number, select_profile, tenant().number)).business_type

    @pages.get("")
    async def listed(number: str) -> Response:
        rows = await db.tenant(tenant().number, store.select_prompts, tenant().number)
        kind = await business_type()
        flawed = {row.prompt_id: len(validation(row.content, row.variables, kind)) for row in rows}
        active = await db.tenant(tenant().number, store.select_active, tenant().number)
        live = validation(active[1].content, active[1].variables, kind) if active is not None else ()
        return site.page("prompts.html", rows=rows, flawed=flawed, live=live)

    async def known_values() -> list[tuple[str, str]]:
        """The placeholders of the profile and the catalog with what stands there now; the catalog only counted."""
        of = tenant()
        profile = await db.tenant(of.number, select_profile, of.number)
        now, values = datetime.now(UTC), values_of(of, profile, (), ())
        counted = viewer().t("prompts.items", count=await db.tenant(of.number, count_items, of.number))
        found = {key: at_reading(key, of, now) if value is None else value for key, value in values.items()}
        return [(key, counted if key in MENU_KEYS else found[key] or "") for key in (*PROFILE_KEYS, *MENU_KEYS)]

    @pages.get("/<prompt>")
    async def editor(number: str, prompt: str) -> Response:
        row = None if prompt == NEW else await needed(prompt)
        typed = flashed("prompt")
        body: Mapping[str, Any] = typed.body if typed is not None else {}
        t = viewer().t
        content = body.get("content", row.content if row is not None else t("prompts.starter"))
        variables = body.get("variables", [one.plain() for one in row.variables] if row is not None else [])
        keys = [str(one["key"]) for one in variables]
        given = [Variable.model_construct(key=key) for key in keys]
        return site.page(
            "prompt.html", row=row, prompt=prompt, content=content, variables=variables, blank=BLANK_ROWS, name=body.get("name", row.name if row else ""),
            note_text=body.get("note", ""), message=body.get("message", ""), unsaved=typed is not None and not body.get("saved"),
            flaws=shown_flaws(validation(content, given, await business_type()), t.language), problems=body.get("problems", []),
            known=await known_values(), reply=body.get("reply"), failure=body.get("failure"), longest=LONGEST,
            configured=site.deps.sandbox.configured, model=site.deps.sandbox.model.model if site.deps.sandbox.model else "",
        )  # fmt: skip

    @pages.post("/<prompt>")
    async def do(number: str, prompt: str) -> Answer:
        row = None if prompt == NEW else await needed(prompt)
        form = dict((await request.form).items())
        content = form.get("content", "").replace("\r\n", "\n")
        typed: dict[str, Any] = {
            "content": content[:200_000], "variables": variables_of(form), "note": form.get("note", "")[:1000], "message": form.get("message", "")[:20_000],
            "name": row.name if row is not None else form.get("name", "").strip()[:200],
        }  # fmt: skip
        here = f"/t/{number}/prompts/{prompt}"
        by_script = bool(request.headers.get("X-Fragment"))
        wanted = form.get("do")
        if wanted not in ("check", "try", "save", "draft"):
            abort(400)
        if wanted == "check":
            if by_script:
                return await checked(content, typed["variables"])
            return await lead(f"{here}#flaws", Flash(kind="prompt", body=typed))
        if wanted == "try":
            if by_script:
                return tried_live(content, typed)
            return await lead(f"{here}#sandbox", Flash(kind="prompt", body={**typed, **await tried(content, typed)}))
        return await saved(
            prompt, {**typed, "content": content, "name": typed["name"] or None}, draft=wanted == "draft"
        )

    async def saved(prompt: str, data: Mapping[str, Any], *, draft: bool) -> Answer:
        home = f"/t/{tenant().number}/prompts"
        try:
            done = await prompts.save_prompt(db, tenant().number, data, person(), draft=draft)
        except Invalid as refused:
            body = {**data, "name": data["name"] or "", "problems": shown_problems(refused.problems)}
            return await lead(f"{home}/{prompt}", Flash(kind="prompt", body=body))
        return await lead(f"{home}/{done.prompt.prompt_id}", _told(done.flaws, done.prompt))

    async def checked(content: str, variables: Sequence[Mapping[str, Any]]) -> Response:
        """The mistakes as JSON, by the same rules as everywhere."""
        t = viewer().t
        problems = check_content(content)
        try:
            given: Sequence[Variable] = read_variables(variables)
        except Invalid:  # said when it is saved; the text is judged all the same
            given = [Variable.model_construct(key=str(one["key"])) for one in variables]
        found = shown_flaws(validation(content, given, await business_type()), t.language) if not problems else []
        found += [{"message": texts_of(text)[t.language], "line": 1, "column": 1} for _, text in problems]
        return Response(json.dumps({"errors": found}, ensure_ascii=False), content_type="application/json")

    async def tried(content: str, typed: Mapping[str, Any]) -> dict[str, Any]:
        try:
            reply = await site.deps.sandbox.test_prompt(db, tenant(), content, typed["message"], typed["variables"])
        except Invalid as refused:
            return {"problems": shown_problems(refused.problems)}
        except ModelFailed as failed:
            return {"failure": dict(texts_of(failed.text))}
        return {"reply": {**reply.plain(), "cut": reply.cut}}

    def tried_live(content: str, typed: Mapping[str, Any]) -> Response:
        of, t = tenant(), viewer().t

        async def work(give: Give) -> None:
            async def piece(text: str) -> None:
                await give(sse("piece", json.dumps(text)))

            try:
                reply = await site.deps.sandbox.test_prompt(
                    db, of, content, typed["message"], typed["variables"], piece
                )
            except Invalid as refused:
                await give(
                    sse("failed", json.dumps("; ".join(texts_of(text)[t.language] for _, text in refused.problems)))
                )
            except ModelFailed as failed:
                await give(sse("failed", json.dumps(texts_of(failed.text)[t.language])))
            else:
                await give(sse("done", json.dumps(_took(t, reply))))

        return streamed(work)

    @pages.post("/<prompt>/activate")
    async def activate(number: str, prompt: str) -> Answer:
        try:
            done = await prompts.activate(db, tenant().number, prompt, person())
        except Invalid:
            return await lead(f"/t/{number}/prompts/{prompt}#flaws", note("prompts.not_activated", tone="bad"))
        if done is None:
            abort(404)
        return await lead(f"/t/{number}/prompts", note("prompts.activated", name=done.prompt.name))

    @pages.get("/<prompt>/history")
    async def history(number: str, prompt: str) -> Response:
        row = await needed(prompt)
        of = tenant().number
        before = _version(request.args.get("before"))
        versions = await db.tenant(of, store.select_history, of, prompt, before=before, limit=51)
        newer = _version(request.args.get("b")) or (versions[0].version if versions else row.version)
        older = _version(request.args.get("a")) or max(1, newer - 1)
        pair: list[VersionRow] = []
        for version in (older, newer):
            found = await db.tenant(of, store.select_version, of, prompt, version)
            if found is None:
                abort(404)
            pair.append(found)
        lines = await trio.to_thread.run_sync(difference, pair[0].content, pair[1].content)
        return site.page(
            "prompt_history.html", row=row, versions=versions[:50], older=pair[0], newer=pair[1], lines=lines,
            after=versions[49].version if len(versions) > 50 else None, changed=pair[0].variables != pair[1].variables,
        )  # fmt: skip

    @pages.post("/<prompt>/restore")
    async def restore(number: str, prompt: str) -> Answer:
        version = _version((await request.form).get("version"))
        try:
            done = await prompts.restore(db, tenant().number, prompt, version, person())
        except Invalid:
            abort(404)
        if done is None:
            abort(404)
        return await lead(
            f"/t/{number}/prompts/{prompt}", note("prompts.restored", old=version, version=done.prompt.version)
        )

    @pages.get("/<prompt>/remove")
    async def confirm_remove(number: str, prompt: str) -> Response:
        row, t = await needed(prompt), viewer().t
        return confirm_page(
            site, title=t("prompts.remove_title", name=row.name), text=t("prompts.remove_text"),
            action=f"/t/{number}/prompts/{prompt}/remove", fields={}, button=t("prompts.remove"), back=f"/t/{number}/prompts/{prompt}",
        )  # fmt: skip

    @pages.post("/<prompt>/remove")
    async def remove(number: str, prompt: str) -> Answer:
        if (await request.form).get("sure") != "1":
            return redirect(f"/t/{number}/prompts/{prompt}/remove", 303)
        row = await needed(prompt)
        try:
            await prompts.delete(db, tenant().number, prompt, person())
        except Invalid:
            return await lead(f"/t/{number}/prompts/{prompt}", note("prompts.active_stays", tone="bad"))
        return await lead(f"/t/{number}/prompts", note("prompts.removed", name=row.name))

    return pages


def _took(t: Words, reply: Reply) -> str:
    """What an answer took, as a sentence."""
    sent, came = ("?" if count is None else count for count in (reply.prompt_tokens, reply.completion_tokens))
    text = t("prompts.tokens", model=reply.model, sent=sent, came=came)
    return f"{text} {t('prompts.cut')}" if reply.cut else text


def _told(found: Sequence[Flaw], prompt: PromptRow) -> Flash:
    """What saving came to."""
    if found:
        return note("prompts.saved_flawed", tone="warn", version=prompt.version, count=len(found))
    if prompt.active_version == prompt.version:
        return note("prompts.saved_live", version=prompt.version)
    return note("prompts.saved_draft", version=prompt.version)


def _version(text: str | None) -> int | None:
    return (
        int(text)
        if text and text.isascii() and text.isdigit() and 0 < int(text[:10]) < 1 << 31 and len(text) < 10
        else None
    )
