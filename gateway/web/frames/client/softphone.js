// The softphone in an outside system's page: connect once, see one's calls, dial.
//
//   no token -> Connect opens our own page in a window -> it hands the token over -> the stream of calls
//   a call that rings here opens the client's record, once; a number clicked in the page is dialled
//
// The token lives in this tab alone, and where the browser refuses storage to frames, in this document alone: then a person connects
// again after a reload. It is taken only from a window of our own origin that this frame has opened.

import { held, make, t } from "./texts.js";

const KEY = `softphone ${held.base}`;
const AGAIN_MS = [1000, 2000, 4000, 8000, 15_000];
const MOST = 8;

let mine = null;
try { mine = JSON.parse(sessionStorage.getItem(KEY) ?? "null"); } catch { /* no storage for frames */ }
let opened = null;
let pages = null;
const calls = new Map();
const shown = new Set();
let stop = null;

const main = make("main");
const place = make("div", "", { class: "place" });
const said = make("p", "", { role: "status", class: "said" });
main.append(make("h1", t.title, { class: "hidden" }), place, said);
document.body.append(main);

function store() {
  try {
    if (mine) sessionStorage.setItem(KEY, JSON.stringify(mine));
    else sessionStorage.removeItem(KEY);
  } catch { /* no storage for frames */ }
}

function say(text) { said.textContent = text; }

function draw() {
  place.replaceChildren();
  if (!mine) {
    const connect = make("button", t.connect, { type: "button", class: "primary" });
    connect.addEventListener("click", () => { opened = window.open(`${held.base}/connect`, "softphone-connect", "popup,width=480,height=560"); });
    place.append(make("p", t.why), connect);
    return;
  }
  const form = make("form");
  const label = make("label", t.number);
  const input = make("input", "", { type: "tel", name: "phone", required: "", maxlength: "64", autocomplete: "off" });
  label.append(input);
  form.append(label, make("button", t.call, { class: "primary" }));
  form.addEventListener("submit", (event) => { event.preventDefault(); void dial(input.value); });
  const list = make("ul", "", { "aria-label": t.calls });
  for (const call of [...calls.values()].reverse()) list.append(line(call));
  const end = make("button", t.disconnect, { type: "button" });
  end.addEventListener("click", () => forget(""));
  const foot = make("footer");
  foot.append(make("span", t.mine(mine.extension)), end);
  place.append(form, calls.size ? list : make("p", t.none, { class: "soft" }), foot);
}

function line(call) {
  const item = make("li", "", { class: call.phase });
  item.append(make("strong", call.phone || t.hidden), make("span", t[call.phase]));
  if (call.search && pages) {
    const open = make("button", t.open, { type: "button" });
    open.addEventListener("click", () => pages.show(call));
    item.append(open);
  }
  return item;
}

function forget(text) {
  mine = null;
  calls.clear();
  stop?.abort();
  store();
  say(text);
  draw();
}

window.addEventListener("message", (event) => {
  if (event.origin !== location.origin || !opened || event.source !== opened || typeof event.data?.softphone !== "string") return;
  mine = { token: event.data.softphone, extension: String(event.data.extension) };
  store();
  opened = null;
  say("");
  draw();
  void follow();
});

async function dial(phone) {
  if (!mine || !phone.trim()) { say(mine ? "" : t.why); return; }
  let status = 0;
  try {
    const answer = await fetch("/api/v1/calls", {
      method: "POST", credentials: "omit", headers: { authorization: `Bearer ${mine.token}`, "content-type": "application/json" },
      body: JSON.stringify({ extension: mine.extension, phone: phone.trim().slice(0, 128) }),
    });
    status = answer.status;
  } catch { /* said below */ }
  if (status === 401) forget(t.again);
  else say(status >= 200 && status < 300 ? t.placed : (t.refused[status] ?? t.failed));
}

function take(call) {
  const before = calls.get(call.id);
  if (!before && call.phase === "ended") return;
  calls.set(call.id, call);
  while (calls.size > MOST) calls.delete(calls.keys().next().value);
  if (call.phase !== "ended" && call.direction === "incoming" && call.search && held.shows && pages && !shown.has(call.id)) {
    shown.add(call.id);
    pages.show(call);
  }
  draw();
}

async function follow() {
  for (let tries = 0; mine; tries += 1) {
    const token = mine.token;
    stop = new AbortController();
    try {
      const answer = await fetch(`${held.base}/events`, { credentials: "omit", headers: { authorization: `Bearer ${token}` }, signal: stop.signal });
      if (answer.status === 401 || answer.status === 403) { forget(t.again); return; }
      if (answer.ok) {
        tries = 0;
        say("");
        await read(answer.body.pipeThrough(new TextDecoderStream()).getReader());
      }
    } catch { /* tried again */ }
    if (mine?.token !== token) return;
    if (tries > 0) say(t.offline);
    await new Promise((done) => setTimeout(done, AGAIN_MS[Math.min(tries, AGAIN_MS.length - 1)]));
  }
}

async function read(reader) {
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const data = lines.filter((one) => one.startsWith("data: ")).map((one) => one.slice(6)).join("\n");
      if (data && lines.includes("event: call")) take(JSON.parse(data));
    }
  }
}

function load(address) {
  return new Promise((done, failed) => {
    const script = make("script", "", { src: address });
    script.addEventListener("load", done);
    script.addEventListener("error", failed);
    document.head.append(script);
  });
}

async function start() {
  for (const address of held.scripts) {
    try {
      await load(address);
      pages = await (await import(held.module)).start({ dial: (phone) => void dial(phone), language: held.language });
      break;
    } catch { pages = null; }
  }
  if (!pages) say(t.noPages);
  for (const call of calls.values()) if (call.phase !== "ended") take(call);
}

draw();
void start();
if (mine) void follow();
