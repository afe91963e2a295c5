// The inbox as it happens: the list and the conversation in view are read anew when the stream says so, an answer is sent without
// leaving the page, files are added by drop and paste, saved replies are chosen behind a slash. Everything also works without it.
"use strict";

const inbox = document.getElementById("inbox");
const TYPING_MS = 4000;
const FRAGMENT = { headers: { "X-Fragment": "1" } };

function parsed(markup) {
  const template = document.createElement("template");
  template.innerHTML = markup;
  return template.content;
}

// The conversation: entries that are the same stay as they are, so that a voice message goes on playing.
function putLines(fresh, thread) {
  const old = new Map([...thread.querySelectorAll(".thread > li[id]")].map((one) => [one.id, one]));
  const list = thread.querySelector(".thread");
  const shown = [...fresh.querySelectorAll(".thread > li")];
  const first = shown[0]?.id;
  // Entries of earlier pages that were opened here stand before the first one of the newest page.
  const before = [];
  for (const one of list.children) {
    if (one.id === first || !first) break;
    before.push(one);
  }
  const kept = old.has(first) ? before : [];
  const entries = shown.map((one) => {
    const known = old.get(one.id);
    return known && known.outerHTML === one.outerHTML ? known : one;
  });
  const wanted = [...kept, ...entries];
  const now = [...list.children];
  if (wanted.length === now.length && wanted.every((one, place) => one === now[place])) return;
  // Moving a node that plays would stop it: only what differs is touched.
  for (const one of now) if (!wanted.includes(one)) one.remove();
  wanted.forEach((one, place) => { if (list.children[place] !== one) list.insertBefore(one, list.children[place] ?? null); });
}

function conversation(thread) {
  let running = false;
  let again = false;

  async function read() {
    if (thread.dataset.newest !== "1") return;
    if (running) { again = true; return; }
    running = true;
    const answer = await fetch(thread.dataset.thread, FRAGMENT).catch(() => null);
    running = false;
    if (answer && answer.status === 401) return location.reload();
    if (answer && answer.status === 404) return location.assign(inbox.dataset.stream.split("/live")[0]);
    if (answer && answer.ok) put(parsed(await answer.text()));
    if (again) { again = false; read(); }
  }

  function put(fresh) {
    putHead(fresh.querySelector("#chat-head"));
    putLines(fresh, thread);
    markRead();
  }

  function putHead(head) {
    const old = document.getElementById("chat-head");
    const state = head.dataset.reply;
    for (const field of document.querySelectorAll("#reply [data-epoch]")) field.value = head.dataset.epoch;
    const open = old.querySelector("details")?.open;
    if (!(open && old.contains(document.activeElement))) {
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      old.replaceWith(head);
      if (open && head.querySelector("details")) head.querySelector("details").open = true;
      if (focused) document.getElementById(focused)?.focus();
    }
    const reply = document.getElementById("reply");
    if (reply && reply.dataset.reply !== state) whole();
    typed();
  }

  // The client stops writing without a word of it.
  function typed() {
    for (const one of document.querySelectorAll("#chat-head [data-types]")) setTimeout(() => one.remove(), Number(one.dataset.types) * 1000);
  }

  // The messenger's window opened or ended: the reply box is another one.
  async function whole() {
    const answer = await fetch(location.href).catch(() => null);
    if (answer && answer.ok) putReply(parsed(await answer.text()), true);
  }

  function putReply(page, keepText) {
    const old = document.getElementById("reply");
    const fresh = page.getElementById("reply");
    if (!old || !fresh) return;
    const text = document.getElementById("reply-text")?.value ?? "";
    const typing = old.contains(document.activeElement);
    old.replaceWith(fresh);
    const box = document.getElementById("reply-text");
    if (box && keepText && text) box.value = text;
    replyBox();
    if (typing) box?.focus();
  }

  // Somebody looks at it: nothing is unread any more.
  async function markRead() {
    const form = thread.querySelector("form[data-read]");
    if (!form || document.hidden || thread.dataset.newest !== "1" || form.dataset.sent) return;
    form.dataset.sent = "1";
    await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), ...FRAGMENT, redirect: "manual" })
      .catch(() => null);
  }

  function replyBox() {
    const form = document.getElementById("reply-form");
    if (!form) return;
    const box = document.getElementById("reply-text");
    const send = document.getElementById("send");
    const files = uploads(form);
    const saved = savedReplies(box);
    const quoting = document.getElementById("quoting");

    function quote(id, text) {
      quoting.querySelector("input").value = id;
      quoting.querySelector("q").textContent = text;
      quoting.hidden = !id;
      box.focus();
    }
    quoting?.querySelector("a").addEventListener("click", (event) => {
      event.preventDefault();
      quote("", "");
    });
    form.addEventListener("quote", (event) => { if (quoting) quote(event.detail.id, event.detail.text); });

    // The client sees that somebody writes, as long as keys are pressed.
    let shown = 0;
    box.addEventListener("input", () => {
      if (!box.value.trim() || Date.now() - shown < TYPING_MS) return;
      shown = Date.now();
      const body = new URLSearchParams([...new FormData(form)].filter(([name]) => name === "csrf"));
      fetch(form.dataset.typing, { method: "POST", body, ...FRAGMENT, redirect: "manual" }).catch(() => null);
    });

    const count = form.querySelector("[data-count]");
    function counted() {
      const limit = Number(box.dataset.limit);
      count.textContent = limit && box.value.length > limit ? box.dataset.over : "";
    }
    box.addEventListener("input", counted);
    counted();

    box.addEventListener("keydown", (event) => {
      if (saved.takes(event)) return;
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        form.requestSubmit();
      }
    });

    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (send.disabled || files.waiting() || (!box.value.trim() && !files.any())) return;
      send.disabled = true;
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) }).catch(() => null);
      send.disabled = false;
      if (!answer) return form.submit(); // the browser says what is wrong with the network, and the text stays
      if (!answer.ok) return location.assign(answer.url);
      const page = parsed(await answer.text());
      if (!page.getElementById("thread")) return location.assign(answer.url);
      box.value = "";
      putReply(page, false);
      document.getElementById("reply-text")?.focus();
      put(page.getElementById("thread"));
      thread.dataset.newest = "1";
    });
  }

  document.addEventListener("click", async (event) => {
    const earlier = event.target.closest?.("#earlier");
    if (!earlier || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const url = new URL(earlier.href);
    const asked = new URL(thread.dataset.thread, location.href);
    asked.searchParams.set("before", url.searchParams.get("before"));
    const answer = await fetch(asked, FRAGMENT).catch(() => null);
    if (!answer || !answer.ok) return location.assign(earlier.href);
    const fresh = parsed(await answer.text());
    const list = thread.querySelector(".thread");
    list.prepend(...fresh.querySelectorAll(".thread > li"));
    const next = fresh.querySelector("#earlier");
    if (next) earlier.replaceWith(next);
    else earlier.parentElement.remove();
    document.getElementById("lines").focus();
  });

  // An answer names the message that it answers, without leaving what was written.
  document.addEventListener("click", (event) => {
    const one = event.target.closest?.("[data-quote]");
    const form = document.getElementById("reply-form");
    if (!one || !form || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    form.dispatchEvent(new CustomEvent("quote", { detail: { id: one.dataset.quote, text: one.dataset.quoted } }));
  });

  document.addEventListener("visibilitychange", markRead);
  replyBox();
  markRead();
  typed();
  return read;
}

// Files are added one by one, before the message that brings them.
function uploads(form) {
  const list = document.getElementById("uploads");
  const attach = document.getElementById("attach");
  const nothing = { waiting: () => false, any: () => form.querySelector("[name=attachments]") !== null };
  if (!form.dataset.files || !attach || !window.FormData) return nothing;
  attach.hidden = false;
  const input = attach.querySelector("input");
  let open = 0;

  async function add(file) {
    const item = document.createElement("li");
    item.textContent = `${file.name}: ${form.dataset.sending}`;
    list.append(item);
    list.hidden = false;
    open += 1;
    const body = new FormData();
    body.append("file", file, file.name || "image.png");
    const answer = await fetch(form.dataset.upload, { method: "POST", body, headers: { "X-CSRF-Token": form.dataset.csrf } })
      .catch(() => null);
    const read = answer ? await answer.json().catch(() => null) : null;
    open -= 1;
    if (!answer || !answer.ok || !read?.id) {
      item.classList.add("problem");
      item.textContent = `${file.name} ${form.dataset.failed} ${read?.errors?.[0]?.message ?? read?.detail ?? ""}`;
    } else {
      item.textContent = read.name || file.name;
      const field = document.createElement("input");
      field.type = "hidden";
      field.name = "attachments";
      field.value = read.id;
      item.append(field);
    }
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "quiet";
    remove.textContent = form.dataset.remove;
    remove.addEventListener("click", () => { item.remove(); list.hidden = !list.children.length; });
    item.append(" ", remove);
  }

  const addAll = (files) => { for (const file of files) add(file); };
  input.addEventListener("change", () => { addAll([...input.files]); input.value = ""; });
  form.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    addAll(files);
  });
  const pane = form.closest(".pane-chat");
  for (const name of ["dragover", "dragleave", "drop"]) {
    pane.addEventListener(name, (event) => {
      if (!form.isConnected || ![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      pane.classList.toggle("dropping", name === "dragover");
      if (name === "drop") addAll([...event.dataTransfer.files]);
    });
  }
  return { waiting: () => open > 0, any: nothing.any };
}

// A slash at the beginning of the answer opens the saved replies; arrows choose, Enter and Tab take, Escape leaves.
function savedReplies(box) {
  const list = document.getElementById("saved-choices");
  const all = [...list.querySelectorAll("[role=option]")];
  let at = -1;

  const shown = () => all.filter((one) => !one.hidden);
  function close() {
    list.hidden = true;
    box.removeAttribute("aria-activedescendant");
  }
  function mark(place) {
    at = place;
    shown().forEach((one, index) => one.setAttribute("aria-selected", String(index === at)));
    const chosen = shown()[at];
    if (!chosen) return;
    box.setAttribute("aria-activedescendant", chosen.id);
    chosen.scrollIntoView({ block: "nearest" });
  }
  function take(one) {
    box.value = one.dataset.text;
    close();
    box.focus();
    box.dispatchEvent(new Event("input"));
  }
  if (!all.length) return { takes: () => false };

  box.addEventListener("input", () => {
    const typed = /^\/(\S*)$/.exec(box.value);
    if (!typed) return close();
    const begin = typed[1].toLowerCase();
    for (const one of all) one.hidden = !one.dataset.shortcut.toLowerCase().startsWith(begin);
    list.hidden = shown().length === 0;
    if (list.hidden) close();
    else mark(0);
  });
  box.addEventListener("blur", () => setTimeout(close, 150));
  for (const one of all) one.addEventListener("mousedown", (event) => { event.preventDefault(); take(one); });

  return {
    takes(event) {
      if (list.hidden) return false;
      const count = shown().length;
      if (event.key === "ArrowDown") mark((at + 1) % count);
      else if (event.key === "ArrowUp") mark((at + count - 1) % count);
      else if ((event.key === "Enter" && !event.ctrlKey) || event.key === "Tab") take(shown()[at]);
      else if (event.key === "Escape") close();
      else return false;
      event.preventDefault();
      return true;
    },
  };
}

// Up and down go through the list.
document.getElementById("chat-list")?.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const links = [...event.currentTarget.querySelectorAll(".chats a")];
  const place = links.indexOf(document.activeElement);
  if (place < 0) return;
  event.preventDefault();
  links[place + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
});

function stream() {
  const state = document.getElementById("inbox-state");
  const thread = document.getElementById("thread");
  const readThread = thread ? conversation(thread) : () => {};
  let source = null;

  function say(on) {
    state.textContent = on ? state.dataset.on : state.dataset.off;
    state.classList.toggle("on", on);
  }
  function moved(id) {
    document.getElementById(id)?.dispatchEvent(new Event("calls"));
  }
  function open() {
    if (source) return;
    source = new EventSource(inbox.dataset.stream);
    source.onopen = () => say(true);
    source.onerror = () => {
      say(false);
      if (source && source.readyState === EventSource.CLOSED) refused();
    };
    source.addEventListener("list", () => moved("chat-list"));
    source.addEventListener("shown", () => { readThread(); moved("person"); });
  }
  function close() {
    if (source) source.close();
    source = null;
  }
  async function refused() {
    close();
    const answer = await fetch(location.href, { method: "HEAD", ...FRAGMENT }).catch(() => null);
    if (answer && answer.status === 401) location.reload();
    else setTimeout(() => { if (!document.hidden) open(); }, 4000);
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  if (!document.hidden) open();
}

if (inbox) stream();
