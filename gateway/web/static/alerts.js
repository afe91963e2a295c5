// Notifications of the browser, where the person has chosen them and the browser allows them. What to notify of comes from the
// server, by a stream that one tab of this browser holds open, hidden or not. Here is remembered what was shown.
"use strict";

const CHOICE = `alerts ${document.body.dataset.choice}`;
const SHOWN = `alerts shown ${document.body.dataset.choice}`;
const SOUND = `alerts sound ${document.body.dataset.choice}`;
const MOST_SHOWN = 200;
const AGAIN_MS = 30000;

const possible = () => "Notification" in window && window.isSecureContext;
const chosen = () => localStorage.getItem(CHOICE) === "on";
const allowed = () => possible() && Notification.permission === "granted";

const sounds = () => localStorage.getItem(SOUND) === "on";

// Two short tones. A browser lets no page sound that nobody has touched: then it stays silent.
async function chime() {
  if (!sounds()) return;
  try {
    const audio = new AudioContext();
    const gain = audio.createGain();
    gain.gain.value = 0.08;
    gain.connect(audio.destination);
    for (const [at, tone] of [[0, 660], [0.16, 880]]) {
      const source = audio.createOscillator();
      source.frequency.value = tone;
      source.connect(gain);
      source.start(audio.currentTime + at);
      source.stop(audio.currentTime + at + 0.14);
      if (at) source.addEventListener("ended", () => audio.close());
    }
  } catch { /* no sound here */ }
}

function stored(key) {
  try { return JSON.parse(localStorage.getItem(key)) ?? []; } catch { return []; }
}

function alertsFrom(address) {
  const troubled = `${SHOWN} ${address}`;
  const open = new Map();
  let source = null;
  let release = null;

  function show(alert) {
    if (!allowed()) return;
    try {
      const shown = new Notification(alert.title, { body: alert.body, tag: alert.tag, lang: document.documentElement.lang });
      shown.addEventListener("click", () => { window.focus(); location.href = alert.href; });
      open.set(alert.tag, shown);
    } catch { stop(); }  // a browser that has the word and not the thing
  }

  function once(alert) {
    const keys = stored(SHOWN);
    if (keys.includes(alert.key)) return;
    localStorage.setItem(SHOWN, JSON.stringify([...keys, alert.key].slice(-MOST_SHOWN)));
    show(alert);
    if (alert.sound && allowed()) chime();
  }

  // A trouble is news where the last list had none of this key. The first list says how things were when this was turned on.
  function compare(troubles) {
    const known = localStorage.getItem(troubled) === null ? troubles.map((one) => one.key) : stored(troubled);
    localStorage.setItem(troubled, JSON.stringify(troubles.map((one) => one.key)));
    for (const one of troubles) if (!known.includes(one.key)) show(one);
  }

  function listen() {
    source = new EventSource(address);
    source.addEventListener("alert", (event) => once(JSON.parse(event.data)));
    source.addEventListener("troubles", (event) => compare(JSON.parse(event.data)));
    source.addEventListener("over", (event) => {
      const ringing = open.get(event.lastEventId);
      open.delete(event.lastEventId);
      if (ringing && !stored(SHOWN).includes(`missed ${event.lastEventId}`)) ringing.close();
    });
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      source = null;
      setTimeout(() => { if (release && !source) listen(); }, AGAIN_MS);
    };
  }

  // One tab listens; the next takes over when it is closed.
  function hold() {
    if (!chosen() || !allowed() || release) return undefined;
    return new Promise((resolve) => { release = resolve; listen(); });
  }

  function stop() {
    source?.close();
    source = null;
    release?.();
    release = null;
  }

  let waiting = false;
  async function follow() {
    if (!chosen() || !allowed()) return stop();
    if (waiting || release) return undefined;
    waiting = true;
    if (navigator.locks) await navigator.locks.request(`alerts ${address}`, hold).catch(() => undefined);
    else await hold();
    waiting = false;
    return undefined;
  }
  window.addEventListener("storage", (event) => { if (event.key === CHOICE || event.key === null) follow(); });
  follow();
}

function alertsSwitch(panel) {
  const button = document.getElementById("alerts-switch");
  const sound = document.getElementById("alerts-sound");
  const state = document.getElementById("alerts-state");

  function draw() {
    const on = chosen();
    state.textContent = !possible() ? panel.dataset.impossible
      : on && !allowed() ? panel.dataset.denied : on ? panel.dataset.on : panel.dataset.off;
    button.hidden = !possible();
    button.textContent = on ? panel.dataset.turnOff : panel.dataset.turnOn;
    button.classList.toggle("primary", !on);
    sound.closest("label").hidden = !possible() || !on;
    sound.checked = sounds();
  }

  sound.addEventListener("change", () => {
    localStorage.setItem(SOUND, sound.checked ? "on" : "off");
    chime();
  });

  button.addEventListener("click", async () => {
    if (chosen()) {
      for (const key of Object.keys(localStorage)) if (key === CHOICE || key.startsWith(SHOWN)) localStorage.removeItem(key);
    } else {
      localStorage.setItem(CHOICE, "on");
      if (Notification.permission === "default") await Notification.requestPermission();
    }
    draw();
  });
  window.addEventListener("storage", draw);
  draw();
}

if (document.body.dataset.alerts) alertsFrom(document.body.dataset.alerts);
const alertsPanel = document.getElementById("alerts-panel");
if (alertsPanel) alertsSwitch(alertsPanel);
