// Our own page, in a window of its own: the person's session makes a token, which goes to the softphone that has opened this window,
// and to no window of another origin.

import { held, make, t } from "./texts.js";

const main = make("main");
document.body.append(main);
main.append(make("h1", t.connectTitle));
const address = `${held.base}/session?tenant=${encodeURIComponent(held.tenant)}`;

async function begin() {
  const answer = await fetch(address, { headers: { accept: "application/json" } });
  if (answer.status === 401) {
    const next = encodeURIComponent(location.pathname);
    main.append(make("p", t.signInFirst), make("a", t.signIn, { href: `/login?next=${next}`, class: "primary" }));
    return;
  }
  if (!answer.ok) { main.append(make("p", t.notYours, { role: "alert" })); return; }
  const who = await answer.json();
  main.append(make("p", t.who(who.person, who.company)));
  if (!window.opener) { main.append(make("p", t.closed)); return; }
  if (!who.extensions.length) { main.append(make("p", t.noNumbers, { role: "alert" })); return; }
  const form = make("form");
  const label = make("label", t.choose);
  const select = make("select", "", { name: "extension", required: "" });
  for (const one of who.extensions) select.append(make("option", `${one.number} ${one.owner}`.trim(), { value: one.number }));
  label.append(select);
  form.append(label, make("p", t.where(held.title), { class: "soft" }), make("button", t.allow, { class: "primary" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void connect(select.value, answer.headers.get("x-csrf-token") ?? "");
  });
  main.append(form);
}

async function connect(extension, csrf) {
  const answer = await fetch(address, {
    method: "POST", headers: { "content-type": "application/json", "x-csrf-token": csrf }, body: JSON.stringify({ extension }),
  });
  if (!answer.ok) { main.append(make("p", t.notYours, { role: "alert" })); return; }
  const made = await answer.json();
  window.opener?.postMessage({ softphone: made.token, extension: made.extension }, location.origin);
  main.replaceChildren(make("h1", t.connectTitle), make("p", t.allowed, { role: "status" }));
  window.close();
}

void begin();
