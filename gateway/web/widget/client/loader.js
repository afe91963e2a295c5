// In a company's page: the launcher, the frame with the chat, and window.gatewayChat. Plain text in, plain text out: the frame
// holds all that knows the gateway, this script what only the page can have. The visitor's token is in the page's own storage,
// for a frame of another site has none of its own; nothing is stored before the visitor writes. Messages name their origin.
(() => {
  "use strict";
  const script = document.currentScript;
  if (!script || !script.src) return;
  const early = window.gatewayChat;
  if (early && typeof early.open === "function") {
    console.warn("gatewayChat: widget.js is in this page twice; the second one does nothing.");
    return;
  }
  const key = script.dataset.key || "";
  const frameUrl = new URL(`widget/${encodeURIComponent(key)}`, script.src);
  const origin = frameUrl.origin;
  const place = `gatewayChat.${key}`;
  const HELLO_WITHIN_MS = 6000;
  const STYLE = `
    :host { all: initial; }
    [hidden] { display: none !important; }
    button, iframe { position: fixed; z-index: 2147483000; border: 0; }
    button { right: 20px; bottom: 20px; width: 60px; height: 60px; border-radius: 50%; padding: 0; cursor: pointer;
      color: var(--ink); background: var(--color); box-shadow: 0 4px 16px rgb(0 0 0 / .3); }
    button:focus-visible { outline: 3px solid var(--color); outline-offset: 3px; }
    svg { width: 28px; height: 28px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
    span { position: absolute; top: -4px; right: -4px; min-width: 22px; height: 22px; padding: 0 6px; box-sizing: border-box;
      border-radius: 11px; background: #b3261e; color: #fff; font: 600 13px/22px system-ui, sans-serif; text-align: center; }
    iframe { right: 20px; bottom: 92px; width: 380px; height: min(620px, calc(100vh - 112px)); border-radius: 14px;
      background: transparent; box-shadow: 0 8px 40px rgb(0 0 0 / .35); color-scheme: normal; }
    @media (prefers-reduced-motion: no-preference) {
      button { transition: transform .15s; } button:hover { transform: scale(1.06); }
      iframe { animation: in .18s ease-out; } @keyframes in { from { opacity: 0; transform: translateY(12px); } }
    }
    @media (max-width: 480px), (max-height: 420px) {
      iframe { inset: 0; width: 100%; height: 100%; height: 100dvh; border-radius: 0; }
      button[aria-expanded=true] { display: none; }
    }`;
  const small = window.matchMedia("(max-width: 480px), (max-height: 420px)");

  const listeners = new Map();
  const waiting = [];
  let ready = false, opened = false, unread = 0, identity = null, locale = script.dataset.locale || "", overflow = null;
  let labels = { open: "Chat", close: "Close", unread: "" };

  // What the page keeps for the visitor.
  const load = () => { try { return JSON.parse(localStorage.getItem(place)) || {}; } catch { return held; } };
  let held = {};
  const keep = (value) => {
    held = value || {};
    try {
      if (value) localStorage.setItem(place, JSON.stringify(value)); else localStorage.removeItem(place);
    } catch { /* the browser forbids storage: the chat then lasts as long as the page */ }
  };

  const host = document.createElement("div");
  const root = host.attachShadow({ mode: "open" });
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
  } catch {
    root.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
  }
  const launcher = document.createElement("button");
  launcher.type = "button";
  launcher.hidden = true;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.append(shape);
  const badge = document.createElement("span");
  badge.setAttribute("aria-hidden", "true");
  launcher.append(svg, badge);
  const frame = document.createElement("iframe");
  frame.hidden = true;
  frame.title = "Chat";
  frame.src = frameUrl.href;
  root.append(launcher, frame);

  const post = (type, more) => frame.contentWindow.postMessage({ gatewayChat: 1, type, ...more }, origin);
  const tell = (type, more) => { if (ready) post(type, more); else waiting.push([type, more]); };
  const emit = (event, value) => {
    for (const listener of listeners.get(event) || []) {
      try { listener(value); } catch (error) { setTimeout(() => { throw error; }); }
    }
  };

  const draw = () => {
    launcher.setAttribute("aria-expanded", String(opened));
    launcher.setAttribute("aria-label", opened ? labels.close : unread ? `${labels.open}. ${labels.unread}` : labels.open);
    shape.setAttribute("d", opened ? "M6 6l12 12M18 6L6 18" : "M4 5h16v11H11l-5 4v-4H4z");
    badge.textContent = unread > 99 ? "99+" : String(unread);
    badge.hidden = !unread || opened;
    frame.hidden = !opened;
    frame.title = labels.frame || "Chat";
    const locked = opened && small.matches;
    if (locked && overflow === null) {
      overflow = document.documentElement.style.overflow;
      document.documentElement.style.overflow = "hidden";
    } else if (!locked && overflow !== null) {
      document.documentElement.style.overflow = overflow;
      overflow = null;
    }
  };
  small.addEventListener("change", draw);

  const open = () => {
    if (opened) return;
    opened = true;
    if (ready) { draw(); frame.focus(); emit("open"); }
    tell("open");
  };
  const close = (focus) => {
    if (!opened) return;
    opened = false;
    if (ready) { draw(); if (focus) launcher.focus(); emit("close"); }
    tell("close");
  };
  launcher.addEventListener("click", () => (opened ? close(true) : open()));

  const api = {
    open() { open(); },
    close() { close(root.activeElement === frame); },
    toggle() { if (opened) close(root.activeElement === frame); else open(); },
    identify(who) {
      if (!who || typeof who !== "object") throw new TypeError("gatewayChat.identify takes {id, name, email, phone, hash}");
      identity = {};
      for (const name of ["id", "name", "email", "phone", "hash"]) if (who[name] != null) identity[name] = String(who[name]);
      tell("identify", { identity });
    },
    reset() { identity = null; keep(null); tell("reset"); },
    setLocale(name) { locale = String(name); tell("locale", { locale }); },
    on(event, listener) {
      if (typeof listener !== "function") throw new TypeError("gatewayChat.on takes an event and a function");
      const of = listeners.get(event) || new Set();
      listeners.set(event, of.add(listener));
      if (event === "ready" && ready) listener();
      return () => of.delete(listener);
    },
  };
  window.gatewayChat = api;

  const fail = (why) => {
    clearTimeout(patience);
    host.remove();
    window.removeEventListener("message", received);
    console.error(`gatewayChat: the chat is not shown: ${why}`);
  };
  const refused = () => fail(
    `${location.host} is not among the widget's allowed domains (or none is allowed), the key "${key}" is of no widget that is ` +
    `switched on, or this page's Content-Security-Policy has no "frame-src ${origin}".`,
  );
  let patience;

  const received = (event) => {
    if (event.source !== frame.contentWindow || event.origin !== origin) return;
    const message = event.data;
    if (!message || message.gatewayChat !== 1) return;
    switch (message.type) {
      case "ready":
        if (ready) return;
        clearTimeout(patience);
        ready = true;
        host.style.setProperty("--color", String(message.color));
        host.style.setProperty("--ink", String(message.ink));
        labels = { ...labels, ...message.labels };
        launcher.hidden = false;
        draw();
        for (const [type, more] of waiting.splice(0)) post(type, more);
        if (opened) { frame.focus(); emit("open"); }
        emit("ready");
        window.dispatchEvent(new Event("gatewayChat:ready"));
        break;
      case "labels": labels = { ...labels, ...message.labels }; draw(); break;
      case "keep": keep(message.value); break;
      case "close": close(true); break;
      case "unread":
        unread = Number(message.count) || 0;
        labels.unread = String(message.label || "");
        draw();
        emit("unread", unread);
        break;
      case "message": emit("message", message.message); break;
    }
  };
  window.addEventListener("message", received);
  frame.addEventListener("load", () => {
    if (ready) return;
    patience = setTimeout(refused, HELLO_WITHIN_MS);
    try { post("hello", { held: load(), identity, locale }); } catch { refused(); }
  });
  window.addEventListener("storage", (event) => {
    if (event.key === place && ready) { held = {}; tell("held", { held: load() }); } // another tab of this site
  });

  const start = () => {
    document.body.append(host);
    if (Array.isArray(early)) for (const [name, ...given] of early) if (name in api) api[name](...given);
  };
  if (document.body) start(); else document.addEventListener("DOMContentLoaded", start);
})();
