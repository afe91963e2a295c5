// The editor of a prompt: placeholders coloured and completed over a plain textarea, mistakes while typing by the server's own
// check, and the sandbox's answer as it comes. Without it the form works by its buttons.
"use strict";

const PLACEHOLDER = /\{\{([a-z][a-z0-9_]*)\}\}|\{\{/g;

function editor(form) {
  const area = form.querySelector("#content");
  const colours = form.querySelector("#colours");
  const list = form.querySelector("#completion");
  const flaws = form.querySelector("#flaws");
  const count = form.querySelector("#count");
  const builtin = form.dataset.keys.split(" ");
  let timer = 0;
  let asked = 0;

  function keys() {
    const own = [...form.querySelectorAll("[data-variable]")].map((field) => field.value.trim()).filter(Boolean);
    return [...new Set([...own, ...builtin])];
  }

  function colour() {
    const known = new Set(keys());
    const text = area.value;
    const made = document.createDocumentFragment();
    let at = 0;
    for (const found of text.matchAll(PLACEHOLDER)) {
      made.append(text.slice(at, found.index));
      const mark = document.createElement("mark");
      mark.className = found[1] && known.has(found[1]) ? "known" : "unknown";
      mark.textContent = found[0];
      made.append(mark);
      at = found.index + found[0].length;
    }
    made.append(`${text.slice(at)}\n`);
    colours.replaceChildren(made);
    follow();
    const most = Number(count.dataset.most);
    count.textContent = `${[...text].length} / ${most}`;
    count.classList.toggle("ill", [...text].length > most);
  }

  function follow() {
    colours.scrollTop = area.scrollTop;
    colours.scrollLeft = area.scrollLeft;
  }

  // Completion: a list of keys once {{ stands before the caret.

  function begun() {
    const found = /\{\{([a-z0-9_]*)$/.exec(area.value.slice(0, area.selectionStart));
    return found && area.selectionStart === area.selectionEnd ? found[1] : null;
  }

  function choices() {
    const typed = begun();
    const fitting = typed === null ? [] : keys().filter((key) => key.startsWith(typed) && key !== typed).slice(0, 8);
    list.replaceChildren(...fitting.map((key, place) => {
      const item = document.createElement("li");
      item.id = `choice-${place}`;
      item.role = "option";
      item.textContent = key;
      item.setAttribute("aria-selected", String(place === 0));
      item.addEventListener("mousedown", (event) => { event.preventDefault(); insert(key); });
      return item;
    }));
    shown(fitting.length > 0);
  }

  function shown(open) {
    list.hidden = !open;
    area.setAttribute("aria-expanded", String(open));
    if (open) area.setAttribute("aria-activedescendant", chosen().id);
    else area.removeAttribute("aria-activedescendant");
  }

  function chosen() {
    return list.querySelector('[aria-selected="true"]');
  }

  function move(step) {
    const items = [...list.children];
    const next = items[(items.indexOf(chosen()) + step + items.length) % items.length];
    for (const item of items) item.setAttribute("aria-selected", String(item === next));
    area.setAttribute("aria-activedescendant", next.id);
  }

  function insert(key) {
    const typed = begun() ?? "";
    const rest = area.value.slice(area.selectionStart).startsWith("}}") ? "" : "}}";
    area.setRangeText(key + rest, area.selectionStart - typed.length, area.selectionEnd, "end");
    if (!rest) area.selectionStart = area.selectionEnd = area.selectionEnd + 2;
    shown(false);
    changed();
  }

  area.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") move(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Enter" || event.key === "Tab") insert(chosen().textContent);
    else if (event.key === "Escape") shown(false);
    else return;
    event.preventDefault();
  });

  for (const code of form.querySelectorAll("[data-key]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.append(code.cloneNode(true));
    button.addEventListener("click", () => {
      area.focus();
      area.setRangeText(`{{${code.dataset.key}}}`, area.selectionStart, area.selectionEnd, "end");
      changed();
    });
    code.replaceWith(button);
  }

  // Mistakes, by the server's rules, a moment after the last key.

  function changed() {
    colour();
    clearTimeout(timer);
    timer = setTimeout(check, 400);
  }

  async function check() {
    const mine = ++asked;
    const answer = await sent("check").catch(() => null);
    if (!answer || !answer.ok || mine !== asked) return;
    const { errors } = await answer.json();
    if (!errors.length) {
      const good = document.createElement("p");
      good.className = "good";
      good.textContent = flaws.dataset.none;
      flaws.replaceChildren(good);
      return;
    }
    const made = document.createElement("ul");
    made.className = "flaws";
    for (const error of errors) made.append(flaw(error));
    flaws.replaceChildren(made);
  }

  function flaw(error) {
    const item = document.createElement("li");
    const place = document.createElement("button");
    place.type = "button";
    place.className = "quiet";
    place.textContent = flaws.dataset.place.replace("{line}", error.line).replace("{column}", error.column);
    place.addEventListener("click", () => go(error.line, error.column));
    item.append(place, ` ${error.message}`);
    return item;
  }

  // Columns are counted in characters, the textarea counts in units of UTF-16.
  function go(line, column) {
    const lines = area.value.split("\n");
    const before = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    const at = before + [...(lines[line - 1] ?? "")].slice(0, column - 1).join("").length;
    area.focus();
    area.setSelectionRange(at, at);
  }

  function sent(what) {
    const data = new FormData(form);
    data.set("do", what);
    return fetch(form.action, { method: "POST", body: data, headers: { "X-Fragment": "1" } });
  }

  area.addEventListener("input", () => { changed(); choices(); });
  area.addEventListener("click", choices);
  area.addEventListener("blur", () => shown(false));
  area.addEventListener("scroll", follow);
  form.addEventListener("input", (event) => { if (event.target.matches("[data-variable]")) changed(); });
  for (const item of flaws.querySelectorAll("li[data-line]")) {
    const message = item.lastChild.textContent.trim();
    item.replaceWith(flaw({ line: Number(item.dataset.line), column: Number(item.dataset.column), message }));
  }
  area.setAttribute("aria-autocomplete", "list");
  area.setAttribute("aria-controls", "completion");
  colours.hidden = false;
  form.classList.add("coloured");
  colour();
  sandbox(form, sent);
}

function sandbox(form, sent) {
  const button = form.querySelector('[name="do"][value="try"]');
  const part = form.querySelector("#reply");

  button.addEventListener("click", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const text = document.createElement("pre");
    text.className = "reply";
    text.tabIndex = 0;
    const state = document.createElement("p");
    state.className = "hint";
    state.textContent = part.dataset.waiting;
    part.replaceChildren(text, state);
    let over = false;

    function received(name, value) {
      if (name === "piece") text.append(value);
      else {
        over = true;
        state.textContent = value;
        state.className = name === "failed" ? "alert bad" : "hint";
      }
    }

    try {
      const answer = await sent("try");
      if (!answer.ok) throw new Error(String(answer.status));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const one of events) {
          const name = /^event: (.*)$/m.exec(one);
          const data = /^data: (.*)$/m.exec(one);
          if (name && data) received(name[1], JSON.parse(data[1]));
        }
      }
    } catch {
      over = false;
    }
    if (!over) received("failed", part.dataset.broken);
    button.disabled = false;
  });
}

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("prompt-form");
  if (form) editor(form);
});
