// The chat in its frame: what the visitor sees and does. Talks to the page that holds it by messages whose source and origin are
// checked, and to the gateway through Connection. Every text that somebody wrote is shown as text.

import { Connection } from "./connection.js";
import { languageOf, TEXTS } from "./texts.js";

const held = JSON.parse(document.documentElement.dataset.widget);
const MOST_TEXT = 10_000;
const LARGEST_FILE = 20 * 1024 * 1024;
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const items = new Map(); // seq -> message
const sending = new Map(); // client_id -> message that is on its way, or was not taken
let hostOrigin = "", opened = false, language = languageOf("", held.language), texts = TEXTS[language];
let state = { answers: "nobody", name: "", open: null }, more = false, online = true, asked = false, note = "", identified = false;
let typingEnds = 0, typingTimer;

// The page that holds this frame.

const toHost = (type, values) => { if (hostOrigin) window.parent.postMessage({ gatewayChat: 1, type, ...values }, hostOrigin); };
const labels = () => ({ open: texts.open, close: texts.close, frame: held.title || texts.frame });

window.addEventListener("message", (event) => {
  if (event.source !== window.parent || window.parent === window || event.data?.gatewayChat !== 1) return;
  if (hostOrigin && event.origin !== hostOrigin) return;
  const message = event.data;
  switch (message.type) {
    case "hello":
      if (hostOrigin || event.origin === "null") return;
      hostOrigin = event.origin;
      speak(message.locale);
      toHost("ready", { color: held.color, ink: held.ink, labels: labels() });
      identified = Boolean(message.identity);
      void line.begin(message.held, message.identity);
      draw();
      break;
    case "open": opened = true; void line.look(); draw(); seen(); focus(); break;
    case "close": opened = false; break;
    case "identify": identified = true; note = ""; void line.identify(message.identity); draw(); break;
    case "reset": identified = false; note = ""; asked = false; sending.clear(); line.reset(); break;
    case "held": line.held(message.held); break;
    case "locale": speak(message.locale); toHost("labels", { labels: labels() }); draw(); unread(); break;
  }
});

function speak(wanted) {
  language = languageOf(wanted, held.language);
  texts = TEXTS[language];
  document.documentElement.lang = language;
}

// What the connection reports.

const line = new Connection(held.key, {
  keep: (value) => toHost("keep", { value }),
  cleared: () => { items.clear(); sending.clear(); more = false; state = { answers: "nobody", name: "", open: state.open }; draw(); unread(); },
  pending: (message) => { sending.set(message.client_id, { ...message, at: message.at || new Date().toISOString() }); note = ""; draw(); },
  taken: (message) => { const one = sending.get(message.client_id); if (one) { one.taken = true; draw(); } },
  failed: (message, error) => {
    const one = sending.get(message.client_id);
    if (one) one.failed = true;
    note = error.status === 403 ? texts.signIn : error.problems.map((each) => each.message).join(" ") || error.message;
    draw();
  },
  slower: () => { note = texts.slower; draw(); },
  refused: () => { note = texts.badIdentity; identified = false; draw(); },
  line: (up) => { if (online !== up) { online = up; draw(); } },
  typing: (seconds) => {
    typingEnds = Date.now() + seconds * 1000;
    clearTimeout(typingTimer);
    typingTimer = setTimeout(draw, seconds * 1000 + 50);
    draw();
  },
  state: (value) => { state = value; if (value.answers !== "ai") asked = false; draw(); },
  messages: (found, { more: earlier, old }) => {
    if (earlier !== undefined) more = earlier;
    for (const one of found) {
      items.set(one.seq, one);
      if (one.client_id) sending.delete(one.client_id);
      if (!old && one.direction === "out") {
        typingEnds = 0;
        say(`${author(one)}: ${one.text}`);
        toHost("message", { message: { id: one.id, author: one.author, name: one.name, text: one.text, at: one.at } });
      }
    }
    draw();
    unread();
    seen();
  },
});

function unread() {
  let count = 0;
  for (const one of items.values()) if (!one.read) count += 1;
  toHost("unread", { count, label: texts.unread(count) });
}

function seen() {
  if (!opened || document.visibilityState !== "visible") return;
  const news = [...items.values()].filter((one) => !one.read);
  if (!news.length) return;
  for (const one of news) one.read = true;
  void line.read(Math.max(...news.map((one) => one.seq)));
  unread();
}
document.addEventListener("visibilitychange", seen);

// The page of the frame. Built once; `draw` changes what has to change, so that focus and what is being written stay.

function make(tag, values = {}, ...inside) {
  const { className, ...attributes } = values;
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

const title = make("h1", { tabindex: "-1" });
const status = make("p", { className: "status" });
const personButton = make("button", { type: "button", className: "person" });
const closeButton = make("button", { type: "button", className: "close" });
const list = make("ol");
const earlierButton = make("button", { type: "button", className: "earlier" });
const greeting = make("p", { className: "greeting", dir: "auto" });
const typing = make("p", { className: "typing" });
const scroll = make("div", { className: "scroll", role: "region", tabindex: "0" }, greeting, earlierButton, list, typing);
const spoken = make("div", { className: "spoken", "aria-live": "polite" });
const notice = make("p", { className: "notice", role: "status" });
const nameLabel = make("label", { for: "name" }), nameField = make("input", { id: "name", autocomplete: "name", maxlength: "200" });
const emailLabel = make("label", { for: "email" });
const emailField = make("input", { id: "email", type: "email", autocomplete: "email", maxlength: "254" });
const awayHelp = make("p", { className: "help" });
const away = make("div", { className: "away" }, awayHelp, nameLabel, nameField, emailLabel, emailField);
const field = make("textarea", { id: "text", rows: "1", autocomplete: "off" });
const fieldLabel = make("label", { for: "text", className: "spoken" });
const sendButton = make("button", { type: "submit", className: "send" });
const picker = make("input", { type: "file", multiple: "", hidden: "", tabindex: "-1" });
const attachButton = make("button", { type: "button", className: "attach" });
const row = make("div", { className: "row" }, attachButton, picker, fieldLabel, field, sendButton);
const form = make("form", { novalidate: "" }, away, row);
document.documentElement.style.setProperty("--color", held.color);
document.documentElement.style.setProperty("--ink", held.ink);
document.body.append(
  make("header", {}, make("div", {}, title, status), personButton, closeButton), make("main", {}, scroll, spoken, notice, form),
);

function author(one) {
  if (one.direction === "in") return texts.you;
  if (one.author === "ai") return texts.ai;
  return one.name || held.title || texts.team;
}

// The reader's own way to write times, where it is of the language that is spoken.
function locale() {
  return (navigator.languages || []).find((one) => one.toLowerCase().startsWith(language)) || language;
}

const LINK = /https?:\/\/[^\s<>"'`]+[^\s<>"'`.,;:!?)\]}]/g;

function paragraphs(text) {
  const body = make("p", { className: "text", dir: "auto" });
  let from = 0;
  for (const found of text.matchAll(LINK)) {
    body.append(text.slice(from, found.index));
    body.append(make("a", { href: found[0], target: "_blank", rel: "noopener noreferrer nofollow" }, found[0]));
    from = found.index + found[0].length;
  }
  body.append(text.slice(from));
  return body;
}

function attachment(file) {
  if (file.latitude != null) return make("p", { className: "file" }, `${file.name || texts.place}: ${file.latitude}, ${file.longitude}`);
  const size = file.size ? ` (${Math.ceil(file.size / 1024)} KB)` : "", name = file.name || texts.file;
  if (!file.ready) return make("p", { className: "file" }, `${name}${size}`);
  const fetchIt = make("button", { type: "button", className: "file" }, `${name}${size}`);
  fetchIt.addEventListener("click", async () => {
    try {
      const link = make("a", { href: URL.createObjectURL(await line.download(file.id)), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch { note = texts.offline; draw(); }
  });
  const shown = make("div", { className: "picture" }, fetchIt);
  if (PICTURES.includes(file.content_type)) {
    const picture = make("img", { alt: name });
    line.download(file.id).then((blob) => {
      picture.src = URL.createObjectURL(blob);
      picture.addEventListener("load", () => { URL.revokeObjectURL(picture.src); scroll.scrollTop = scroll.scrollHeight; });
      shown.prepend(picture);
    }, () => {});
  }
  return shown;
}

function bubble(one, previous) {
  const made = make("li", { className: one.direction === "in" ? "mine" : "theirs" });
  const who = author(one);
  if (!previous || author(previous) !== who) {
    made.append(make("span", { className: one.direction === "in" ? "spoken" : one.author === "ai" ? "who ai" : "who" }, who));
  }
  if (one.text) made.append(paragraphs(one.text));
  for (const file of one.shown ? [one.shown] : one.attachments || []) made.append(attachment(file));
  const at = new Date(one.at);
  const day = at.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" };
  const mark = make("span", { className: "at" });
  mark.append(make("time", { datetime: one.at }, at.toLocaleString(locale(), { ...day, hour: "2-digit", minute: "2-digit" })));
  if (one.failed) {
    const again = make("button", { type: "button", className: "again" }, texts.again);
    again.addEventListener("click", () => { const { failed, taken, direction, at: when, ...message } = one; line.write(message); });
    mark.append(` · ${texts.failed} `, again);
  } else if (one.client_id && sending.has(one.client_id) && !one.taken) mark.append(` · ${texts.sending}`);
  made.append(mark);
  return made;
}

let drawn = "", bubbles = new Map(); // what is drawn already, so that only news move

function draw() {
  title.textContent = held.title;
  const absent = state.open === false && state.answers !== "ai" && state.answers !== "human";
  status.textContent = absent ? texts.away : {
    ai: texts.aiAnswers, human: texts.human(state.name), queue: texts.queue, nobody: "",
  }[state.answers];
  personButton.textContent = texts.person;
  personButton.hidden = state.answers !== "ai" || asked;
  closeButton.setAttribute("aria-label", texts.close);
  scroll.setAttribute("aria-label", texts.messages);
  fieldLabel.textContent = texts.write;
  field.placeholder = texts.write;
  sendButton.setAttribute("aria-label", texts.send);
  earlierButton.textContent = texts.earlier;
  earlierButton.hidden = !more;
  greeting.textContent = held.greeting;
  greeting.hidden = !held.greeting || items.size > 0;
  awayHelp.textContent = texts.awayHelp;
  nameLabel.textContent = texts.name;
  emailLabel.textContent = texts.email;
  away.hidden = !absent || identified || items.size > 0 || sending.size > 0;
  const locked = held.identity && !identified;
  field.disabled = sendButton.disabled = attachButton.disabled = locked;
  attachButton.setAttribute("aria-label", texts.attach);
  attachButton.hidden = !away.hidden;
  notice.textContent = locked ? note || texts.signIn : note || (online ? (asked ? texts.personAsked : "") : texts.offline);
  notice.hidden = !notice.textContent;
  const writes = typingEnds > Date.now();
  typing.textContent = writes ? `${state.answers === "ai" ? texts.ai : state.name || held.title || texts.team} ${texts.typing}` : "";
  const all = [...items.values()].sort((one, other) => one.seq - other.seq);
  all.push(...[...sending.values()].map((one) => ({ ...one, direction: "in" })));
  const shown = JSON.stringify([language, all.map((one) => [one.id || one.client_id, one.failed, one.taken])]);
  if (shown !== drawn) {
    drawn = shown;
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    const before = bubbles;
    bubbles = new Map();
    for (const [place, one] of all.entries()) {
      const mark = JSON.stringify([language, one, place ? author(all[place - 1]) : ""]);
      bubbles.set(mark, before.get(mark) || bubble(one, all[place - 1]));
    }
    list.replaceChildren(...bubbles.values());
    if (atEnd) scroll.scrollTop = scroll.scrollHeight;
  }
}

function say(text) {
  const one = make("p", {}, text);
  spoken.append(one);
  setTimeout(() => one.remove(), 10_000);
}

function focus() {
  scroll.scrollTop = scroll.scrollHeight;
  if (window.matchMedia("(hover: hover)").matches && !field.disabled) field.focus(); else title.focus();
}

// What the visitor does.

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (!text || field.disabled) return;
  if (text.length > MOST_TEXT) { note = texts.tooLong(MOST_TEXT); draw(); return; }
  const message = { client_id: newId(), text, language };
  if (!away.hidden) {
    if (!emailField.value.trim() || !emailField.checkValidity()) {
      note = texts.badEmail;
      emailField.setAttribute("aria-invalid", "true");
      draw();
      emailField.focus();
      return;
    }
    emailField.removeAttribute("aria-invalid");
    message.email = emailField.value.trim();
    if (nameField.value.trim()) message.name = nameField.value.trim();
  }
  field.value = "";
  grow();
  line.write(message);
  scroll.scrollTop = scroll.scrollHeight;
});

field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
});
field.addEventListener("input", () => { grow(); if (field.value.trim()) line.typing(); });
attachButton.addEventListener("click", () => picker.click());
picker.addEventListener("change", () => { void attach([...picker.files]); picker.value = ""; });
field.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) { event.preventDefault(); void attach([...event.clipboardData.files]); }
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); void attach([...(event.dataTransfer?.files || [])]); });

async function attach(files) {
  if (attachButton.disabled || attachButton.hidden) return;
  for (const file of files) {
    if (file.size > LARGEST_FILE) { note = texts.tooLarge; draw(); continue; }
    try {
      attachButton.setAttribute("aria-busy", "true");
      const added = await line.upload(file);
      const shown = { name: added.name, size: added.size, kind: added.kind };
      line.write({ client_id: newId(), text: "", language, attachments: [added.id], shown });
    } catch (error) {
      note = `${texts.notSent(file.name)} ${(error.problems || []).map((each) => each.message).join(" ")}`;
      draw();
    } finally { attachButton.removeAttribute("aria-busy"); }
  }
}

closeButton.addEventListener("click", () => toHost("close"));
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.isComposing) toHost("close"); });
personButton.addEventListener("click", async () => {
  asked = true;
  draw();
  try { await line.person(); } catch { asked = false; note = texts.offline; draw(); }
  field.focus();
});
earlierButton.addEventListener("click", async () => {
  const before = Math.min(...items.keys()), height = scroll.scrollHeight;
  try {
    const answer = await line.earlier(before);
    for (const one of answer.items) items.set(one.seq, one);
    more = answer.more;
    draw();
    scroll.scrollTop = scroll.scrollHeight - height;
    scroll.focus();
  } catch { note = texts.offline; draw(); }
});

function grow() {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 140)}px`;
}

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}
