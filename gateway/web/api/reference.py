"""`/api/docs`: the API's document as a page that people read and search. Served by ourselves, with nothing from elsewhere.

Everything is there without a script; the script only filters, and sends GET requests with the session of whoever is signed in
to a company. Read `openapi.py` for the document.
"""

import hashlib
import html
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from gateway.web.api.openapi import answers_of, example_of
from gateway.web.http.routes import Address, Handler, Request, Response

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1rem;color:CanvasText;background:Canvas}"
    "h2{margin-top:2.5rem}h3{font-size:1rem;margin:1.5rem 0 .3rem;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0}"
    "td,th{border:1px solid #7a8594;padding:.25rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "pre{border:1px solid #7a8594;padding:.6rem;overflow:auto;max-height:24rem;white-space:pre-wrap;overflow-wrap:anywhere}"
    "input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem}button{font:inherit;padding:.3rem .8rem}"
    "nav ul{columns:18rem;list-style:none;padding:0}nav a{overflow-wrap:anywhere}.sought{position:sticky;top:0;background:Canvas;padding:.5rem 0}"
    "[hidden]{display:none}"
)
_SCRIPT = """
const box=document.getElementById('sought'),none=document.getElementById('none');
box.closest('div').hidden=false;
box.addEventListener('input',()=>{
 const words=box.value.toLowerCase().split(/\\s+/).filter(Boolean);let any=false;
 for(const one of document.querySelectorAll('[data-address]')){
  const fits=words.every(word=>one.dataset.address.includes(word));one.hidden=!fits;any=any||fits&&one.tagName==='SECTION'}
 for(const part of document.querySelectorAll('[data-part]'))part.hidden=!part.querySelector('[data-address]:not([hidden])');
 none.hidden=any});
for(const form of document.querySelectorAll('form[data-try]')){
 form.hidden=false;
 form.addEventListener('submit',async event=>{
  event.preventDefault();
  const shown=form.querySelector('pre');shown.hidden=false;shown.textContent='…';
  let path=form.dataset.try;const query=new URLSearchParams();
  for(const field of form.querySelectorAll('input')){
   if(field.dataset.in==='path')path=path.replace('{'+field.name+'}',encodeURIComponent(field.value));
   else if(field.value)query.set(field.name,field.value)}
  try{
   const answer=await fetch(path+(query.size?'?'+query:''),{headers:{Accept:'application/json'}});
   const text=await answer.text();let told=text;
   try{told=JSON.stringify(JSON.parse(text),null,2)}catch{}
   shown.textContent=answer.status+' '+answer.statusText+'\\n\\n'+told}
  catch(error){shown.textContent='The gateway did not answer.'}})}
"""


def _digest(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; script-src 'sha256-{_digest(_SCRIPT)}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _rows(pairs: Sequence[tuple[str, str]], first: str, second: str) -> str:
    body = "".join(f"<tr><td><code>{html.escape(a)}</code></td><td>{html.escape(b)}</td></tr>" for a, b in pairs)
    return f"<table><thead><tr><th scope=col>{first}</th><th scope=col>{second}</th></tr></thead><tbody>{body}</tbody></table>"


def _shape(schema: Mapping[str, Any]) -> str:
    """A field in words: its kind or values, limits, and what it is."""
    if "anyOf" in schema:
        listed = " or ".join(filter(None, (_shape(one) for one in schema["anyOf"])))
    elif "$ref" in schema:
        listed = schema["$ref"].rpartition("/")[2]
    elif schema.get("type") == "array" and isinstance(schema.get("items"), Mapping):
        listed = f"list of {_shape(schema['items']) or 'anything'}"
    else:
        kinds = schema.get("enum", schema.get("const", schema.get("type", "")))
        listed = (
            " or ".join("null" if kind is None else str(kind) or '""' for kind in kinds)
            if isinstance(kinds, list)
            else str(kinds)
        )
    limits = [
        f"{text} {schema[name]}"
        for name, text in (("minimum", "from"), ("maximum", "to"), ("minLength", "at least"), ("maxLength", "at most"))
        if name in schema
    ]
    return "; ".join(part for part in (listed, " ".join(limits), str(schema.get("description", ""))) if part)


def _fields(schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", ())
    pairs = [
        (name, _shape(inner) + ("; required" if name in needed else ""))
        for name, inner in schema.get("properties", {}).items()
    ]
    # A body whose names are not fixed, such as a map, is described as a whole.
    if isinstance(rest := schema.get("additionalProperties"), Mapping):
        pairs.append(("any name", _shape(rest)))
    described = f"<p>{html.escape(str(schema['description']))}</p>" if schema.get("description") else ""
    return described + _rows(pairs or [("the body", _shape(schema) or "any")], "Field", "Value")


def _curl(address: Address, base_url: str) -> str:
    """A command that runs, once KEY and the parts of the path are filled in."""
    parts = [
        f"curl {base_url}{address.path}"
        if address.method == "GET"
        else f"curl -X {address.method} {base_url}{address.path}"
    ]
    if address.scopes:
        parts.append('-H "Authorization: Bearer $KEY"')
    elif address.operator:
        parts.append('-H "Authorization: Bearer $OPERATOR_TOKEN"')
    if address.body is not None:
        example = example_of(address.body) or {}
        sent = json.dumps(example, ensure_ascii=False).replace("'", "'\\''")
        parts += ["-H 'Content-Type: application/json'", f"-d '{sent}'"]
    return " \\\n  ".join(parts)


def _try(address: Address) -> str:
    """A form that sends the request with the reader's own session; shown where there is a script."""
    if address.method != "GET" or not address.scopes or address.content:
        return ""
    names = [(part[1:-1], "path") for part in address.path.split("/") if part.startswith("{")]
    if address.query is not None:
        names += [(info.alias or name, "query") for name, info in address.query.model_fields.items()]
    fields = "".join(
        f'<label>{html.escape(name)} <input name="{html.escape(name)}" data-in="{where}"></label>'
        for name, where in names
    )
    return (
        f'<form data-try="{html.escape(address.path)}" hidden><details><summary>Try it with your session</summary>{fields}'
        "<p><button>Send</button></p><pre hidden tabindex=0></pre></details></form>"
    )


def _section(address: Address, base_url: str) -> str:
    name = f"{address.method} {address.path}"
    parts = [
        f'<section id="{_anchor(address)}" data-address="{_words(address)}"><h3><code>{html.escape(name)}</code></h3>',
        f"<p>{html.escape(address.summary)}.",
    ]
    if address.operator:
        parts.append(" For operators.")
    if address.scopes:
        parts.append(f" Scope {' or '.join(f'<code>{scope}</code>' for scope in address.scopes)}.")
    parts.append("</p>")
    if address.query is not None:
        parts += ["<h4>Query</h4>", _fields({**address.query.model_json_schema(), "description": ""})]
    if address.header_names:
        parts.append(_rows(list(address.header_names.items()), "Header", "Meaning"))
    if address.body is not None:
        parts += ["<h4>Body</h4>", _fields(address.body.model_json_schema())]
    elif address.schema is not None:
        parts += ["<h4>Body</h4>", _fields(address.schema)]
    if address.scopes or address.body is not None or address.method == "GET":
        parts.append(f"<pre tabindex=0>{html.escape(_curl(address, base_url))}</pre>")
    parts.append(_rows([(str(k), v) for k, v in answers_of(address).items()], "Status", "Meaning"))
    for status, model in address.replies.items():
        parts += [f"<h4>Answer {status}</h4>", _fields(model.model_json_schema(mode="serialization"))]
        if (example := example_of(model)) is not None:
            parts.append(f"<pre tabindex=0>{html.escape(json.dumps(example, ensure_ascii=False, indent=2))}</pre>")
    return "".join([*parts, _try(address), "</section>"])


def _words(address: Address) -> str:
    """What the search looks into."""
    return html.escape(" ".join((address.method, address.path, address.summary, *address.scopes)).lower())


def _anchor(address: Address) -> str:
    return "".join(c if c.isalnum() else "-" for c in f"{address.method}{address.path}").strip("-").lower()


def _page(table: Sequence[Address], base_url: str) -> str:
    shown = [address for address in table if not address.hidden]
    sections = list(dict.fromkeys(address.section for address in shown))
    # The API comes before what hosts and other systems call.
    sections.sort(key=lambda name: name == "Machines")
    listed, bodies = [], []
    for name in sections:
        own = [address for address in shown if address.section == name]
        links = "".join(
            f'<li data-address="{_words(one)}">'
            f'<a href="#{_anchor(one)}"><code>{one.method} {html.escape(one.path)}</code></a></li>'
            for one in own
        )
        listed.append(f"<div data-part><h2>{html.escape(name)}</h2><ul>{links}</ul></div>")
        bodies.append(
            f"<div data-part><h2>{html.escape(name)}</h2>{''.join(_section(one, base_url) for one in own)}</div>"
        )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Telephony gateway: API</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body><main>'
        '<h1>Telephony gateway: API</h1><p>As a document: <a href="/api/openapi.json">OpenAPI 3.1</a>. Errors are '
        "<code>application/problem+json</code> with <code>code</code>, <code>retryable</code> and, for what is not valid, "
        "<code>errors</code> with the <code>path</code> of each. A key goes into <code>Authorization: Bearer KEY</code> or "
        "<code>X-API-Key: KEY</code>, never into the address; lists go on with <code>?cursor=</code> and the <code>next</code> of "
        "the answer before.</p>"
        '<div class="sought" hidden><label>Search <input id="sought" type="search" autocomplete="off"></label>'
        '<p id="none" role="status" hidden>Nothing fits.</p></div>'
        f'<nav aria-label="Addresses">{"".join(listed)}</nav>{"".join(bodies)}</main><script>{_SCRIPT}</script></body></html>'
    )


def page_handler(table: list[Address], base_url: str = "") -> Handler:
    """`/api/docs`; commands begin with `base_url`. It is made once, in a thread."""
    made: list[bytes] = []

    async def page(request: Request) -> Response:
        if not made:
            made.append(await trio.to_thread.run_sync(lambda: _page(table, base_url).encode()))
        headers = (("Content-Security-Policy", _POLICY),)
        return Response(body=made[0], content_type="text/html; charset=utf-8", headers=headers)

    return page
