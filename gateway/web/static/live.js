// Keeps open pages fresh: rows of calls by server-sent events, other parts by asking again. Without it pages refresh
// themselves. It puts markup of our own server in place and decides nothing.
"use strict";

// Timers count on from the age that the server wrote, so the two clocks need not agree.
const startOf = new WeakMap();

function tick() {
  for (const timer of document.querySelectorAll(".timer")) {
    if (!startOf.has(timer)) startOf.set(timer, performance.now() - Number(timer.dataset.age) * 1000);
    const whole = Math.floor((performance.now() - startOf.get(timer)) / 1000);
    const rest = String(whole % 60).padStart(2, "0");
    const minutes = Math.floor(whole / 60);
    const text = minutes < 60 ? `${minutes}:${rest}`
      : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
    if (timer.textContent !== text) timer.textContent = text;
  }
}

function rowsOf(markup) {
  const template = document.createElement("template");
  template.innerHTML = `<table><tbody>${markup}</tbody></table>`;
  return [...template.content.querySelectorAll("tr")];
}

function liveCalls(table) {
  const body = table.tBodies[0];
  const history = document.querySelector("#history[data-live]");
  const state = document.getElementById("live-state");
  let source = null;

  function counted() {
    const count = body.rows.length;
    document.getElementById("live-count").textContent = count;
    document.getElementById("live-empty").hidden = count > 0;
    table.hidden = count === 0;
    tick();
  }

  // Parts that show figures of calls ask anew.
  function moved() {
    document.querySelectorAll("[data-on-calls]").forEach((part) => part.dispatchEvent(new Event("calls")));
  }

  function say(on) {
    state.textContent = on ? state.dataset.on : state.dataset.off;
    state.classList.toggle("on", on);
  }

  function put(rows) {
    for (const row of rows) {
      const old = document.getElementById(row.id);
      const hadFocus = old && old.contains(document.activeElement);
      if (old) old.replaceWith(row);
      else body.append(row);
      if (hadFocus) row.querySelector("a")?.focus();
    }
  }

  function open() {
    if (source) return;
    source = new EventSource(table.dataset.stream);
    source.onopen = () => say(true);
    source.onerror = () => {
      say(false);
      if (source && source.readyState === EventSource.CLOSED) refused();
    };
    source.addEventListener("all", (event) => {
      const rows = rowsOf(event.data);
      const kept = new Set(rows.map((row) => row.id));
      for (const row of [...body.rows]) if (!kept.has(row.id)) row.remove();
      put(rows);
      counted();
    });
    source.addEventListener("call", (event) => { put(rowsOf(event.data)); counted(); moved(); });
    source.addEventListener("gone", (event) => {
      document.getElementById(`live-${event.lastEventId}`)?.remove();
      counted();
      moved();
    });
    source.addEventListener("figures", (event) => {
      const figures = document.getElementById("day-figures");
      if (figures) figures.innerHTML = event.data;
      moved();
    });
    source.addEventListener("ended", (event) => {
      if (!history) return;
      history.hidden = false;
      document.getElementById("history-empty")?.remove();
      for (const row of rowsOf(event.data)) {
        document.getElementById(row.id)?.remove();
        history.tBodies[0].prepend(row);
      }
      while (history.tBodies[0].rows.length > 100) history.tBodies[0].lastElementChild.remove();
    });
  }

  // The stream was refused: without a session the page itself will say so, otherwise it is asked for again.
  async function refused() {
    close();
    const answer = await fetch(location.href, { method: "HEAD", headers: { "X-Fragment": "1" } }).catch(() => null);
    if (answer && answer.status === 401) location.reload();
    else setTimeout(() => { if (!document.hidden) open(); }, 4000);
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  // A hidden tab gives its connection back: a browser has few of them for one server.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  counted();
  if (!document.hidden) open();
}

// What is wrong in the company stands in the menu too.
function badge(part) {
  const troubles = part.querySelector("[data-troubles]");
  const shown = document.getElementById("trouble-badge");
  if (!troubles || !shown) return;
  shown.hidden = troubles.dataset.troubles === "0";
  shown.querySelector("[data-count]").textContent = troubles.dataset.troubles;
}

const SOON_MS = 700;

function polled(part) {
  let shown = "";
  let soon = null;
  part.addEventListener("calls", () => {
    soon ??= setTimeout(() => { soon = null; fetchPart(); }, SOON_MS);
  });
  setInterval(fetchPart, Number(part.dataset.pollS || 2) * 1000);
  document.addEventListener("visibilitychange", fetchPart);

  async function fetchPart() {
    if (document.hidden) return;
    const answer = await fetch(part.dataset.poll, { headers: { "X-Fragment": "1" } }).catch(() => null);
    if (!answer) return;
    if (answer.status === 401) return location.reload();
    if (!answer.ok) return;
    const markup = await answer.text();
    if (markup === shown) return;
    shown = markup;
    const active = part.contains(document.activeElement) ? document.activeElement : null;
    const focused = active ? active.id : "";
    const href = active ? active.getAttribute("href") : null;
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    const left = part.querySelector(".picture")?.scrollLeft ?? 0;
    part.innerHTML = markup;
    const picture = part.querySelector(".picture");
    if (picture) picture.scrollLeft = left;
    part.querySelectorAll("details").forEach((one, place) => { if (open[place]) one.open = true; });
    if (focused) document.getElementById(focused)?.focus();
    else if (href) part.querySelector(`a[href="${CSS.escape(href)}"]`)?.focus();
    badge(part);
    tick();
  }
}

// A block that is to be pasted elsewhere gets a button that copies it, where the browser can.
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
    button.textContent = button.dataset.copied;
  });
}

// The result of the last button floats in a corner and goes by itself, unless it offers a way back or somebody is at it.
const TOAST_MS = 10000;
function toast(part) {
  const close = part.querySelector("[data-close]");
  part.classList.add("floating");
  close.hidden = false;
  const gone = () => part.remove();
  close.addEventListener("click", gone);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") gone(); });
  if (part.querySelector("form")) return;
  setTimeout(function later() {
    if (part.matches(":hover, :focus-within")) setTimeout(later, TOAST_MS);
    else gone();
  }, TOAST_MS);
}
document.querySelectorAll(".toast").forEach(toast);

// `/` leads to the search box, from wherever nothing is being typed.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
  const box = document.getElementById("find");
  if (!box) return;
  event.preventDefault();
  box.focus();
  box.select();
});

// On a narrow screen the tabs scroll sideways.
document.querySelector("nav a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// A part with a stream of its own is read anew when that says so, and not only from time to time.
function streamed(part) {
  let source = null;
  function open() {
    if (source) return;
    source = new EventSource(part.dataset.stream);
    source.addEventListener("changed", () => part.dispatchEvent(new Event("calls")));
    source.onerror = () => {
      if (!source || source.readyState !== EventSource.CLOSED) return;
      close();
      setTimeout(() => { if (!document.hidden) open(); }, 4000);
    };
  }
  function close() {
    if (source) source.close();
    source = null;
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  if (!document.hidden) open();
}

const live = document.getElementById("live");
if (live) liveCalls(live);
document.querySelectorAll("[data-poll]").forEach(polled);
document.querySelectorAll("[data-poll][data-stream]").forEach(streamed);
tick();
setInterval(tick, 1000);
