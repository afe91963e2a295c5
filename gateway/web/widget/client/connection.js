// The visitor's line to the gateway: token, history, the stream of events, and messages that are on their way.
//
//   write -> queue -> session if there is no token -> POST, the same client_id until it is taken
//   history, then the stream from the last number on; a lost line is tried again within 2 s

const QUICK_MS = [300, 800, 1500];
const SLOW_MS = 8000;
const QUICK_TRIES = 120; // after some minutes without the gateway, less often
const SILENCE_MS = 40_000; // the gateway says something every 15 s
const HIDDEN_MS = 30_000; // a page that nobody looks at takes no connection of the few that a browser has

export class Connection {
  constructor(key, on) {
    this.base = `/widget/${encodeURIComponent(key)}`;
    this.on = on;
    this.token = "";
    this.identity = null;
    this.pending = [];
    this.last = 0;
    this.wrote = false;
    this.era = 0; // rises with every other visitor: what an older one still receives is dropped
    this.sending = false;
    window.addEventListener("online", () => this.kick());
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.hiding);
      if (document.visibilityState === "visible") { this.paused = false; this.kick(); }
      else this.hiding = setTimeout(() => { this.paused = true; this.stop?.abort(); }, HIDDEN_MS);
    });
  }

  // Whose chat it is.

  async begin(held, identity) {
    this.adopt(held);
    if (identity) await this.identify(identity);
    else if (this.token) this.follow();
    void this.flush();
  }

  adopt(held) {
    this.token = typeof held?.token === "string" ? held.token : "";
    this.wrote = Boolean(this.token);
    this.pending = Array.isArray(held?.pending) ? held.pending.filter((one) => one && one.client_id && (one.text || one.attachments)) : [];
    for (const one of this.pending) this.on.pending(one);
  }

  async identify(identity) {
    this.identity = identity;
    for (let tries = 0; this.identity === identity; tries += 1) {
      try {
        const before = this.token;
        await this.session();
        if (before !== this.token) this.anew();
        this.follow();
        void this.flush();
        return;
      } catch (error) {
        if (error.status === 403 || error.status === 422) { this.on.refused(error); return; }
        await pause(delayOf(tries));
      }
    }
  }

  reset() {
    this.token = "";
    this.identity = null;
    this.pending = [];
    this.wrote = false;
    this.anew();
  }

  // Another tab has begun, gone on, or forgotten.
  held(value) {
    if ((value?.token || "") === this.token) return;
    this.adopt(value);
    this.anew();
    if (this.token) this.follow();
  }

  anew() {
    this.era += 1;
    this.last = 0;
    this.stop?.abort();
    this.on.cleared();
    for (const one of this.pending) this.on.pending(one);
  }

  keep() {
    if (this.wrote) this.on.keep({ token: this.token, pending: this.pending });
  }

  async session() {
    const answer = await this.call("POST", "session", this.identity ? { identity: this.identity } : {});
    this.token = answer.token;
    this.keep();
  }

  // Writing.

  write(message) {
    this.wrote = true;
    this.pending.push(message);
    this.on.pending(message);
    this.keep();
    void this.flush();
  }

  async flush() {
    if (this.sending) return;
    this.sending = true;
    try {
      for (let tries = 0; this.pending.length;) {
        const message = this.pending[0];
        try {
          if (!this.token) await this.session();
          await this.call("POST", "messages", message);
          if (this.pending[0] === message) this.pending.shift();
          this.on.taken(message);
          this.keep();
          this.follow();
          tries = 0;
        } catch (error) {
          if (error.status === 401) { this.token = ""; this.anew(); tries += 1; if (tries > 3) await this.nap(tries); continue; }
          if (error.status && error.status !== 429 && error.status < 500) {
            if (this.pending[0] === message) this.pending.shift();
            this.keep();
            this.on.failed(message, error);
            continue;
          }
          if (error.status === 429) this.on.slower();
          tries += 1;
          await this.nap(tries, error.after);
        }
      }
    } finally {
      this.sending = false;
    }
  }

  read(seq) {
    return this.call("POST", "read", { seq }, true).catch(() => {}); // even if the page is being left
  }

  typing() {
    const now = Date.now();
    if (!this.token || !this.last || now - (this.typedAt || 0) < 3000) return;
    this.typedAt = now;
    this.call("POST", "typing", {}).catch(() => {});
  }

  person() {
    return this.call("POST", "person", {});
  }

  // Adds a file, which a message then brings by its id.
  async upload(file) {
    if (!this.token) await this.session();
    const answer = await fetch(`${this.base}/files?name=${encodeURIComponent(file.name || "")}`, {
      method: "POST", body: file,
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": file.type || "application/octet-stream" },
    });
    if (!answer.ok) throw await problemOf(answer);
    return answer.json();
  }

  async download(id) {
    const answer = await fetch(`${this.base}/files/${id}`, { headers: { Authorization: `Bearer ${this.token}` } });
    if (!answer.ok) throw await problemOf(answer);
    return answer.blob();
  }

  async earlier(before) {
    return this.call("GET", `messages?before=${before}`);
  }

  // Reading.

  // Before there is a token: whether anybody is there.
  async look() {
    if (this.token || this.looked) return;
    this.looked = true;
    try {
      const state = await this.call("GET", "state");
      if (!this.last) this.on.state(state);
    } catch { this.looked = false; }
  }

  follow() {
    if (this.following === this.era) return;
    this.following = this.era;
    void this.run(this.era);
  }

  async run(era) {
    let known = false, tries = 0;
    while (era === this.era && this.token) {
      if (this.paused) { await this.nap(1, 60); continue; }
      try {
        if (!known) {
          const answer = await this.call("GET", "messages");
          if (era !== this.era) return;
          known = true;
          this.on.state(answer.state);
          this.on.messages(answer.items, { more: answer.more, old: true });
          this.last = answer.items.reduce((most, one) => Math.max(most, one.seq), this.last);
        }
        await this.stream(era, () => { tries = 0; });
      } catch (error) {
        if (era !== this.era) return;
        if (error.status === 401 || error.status === 404) {
          this.token = "";
          this.following = null;
          if (error.status === 401) { this.wrote = this.pending.length > 0; this.on.keep(null); this.anew(); }
          return;
        }
      }
      if (era !== this.era) return;
      if (!this.paused && tries > 0) this.on.line(false);
      tries += 1;
      await this.nap(tries);
    }
  }

  async stream(era, alive) {
    this.stop = new AbortController();
    const stop = this.stop;
    let silence = setTimeout(() => stop.abort(), SILENCE_MS);
    try {
      const answer = await fetch(`${this.base}/events`, {
        headers: { Authorization: `Bearer ${this.token}`, "Last-Event-ID": String(this.last) }, cache: "no-store", signal: stop.signal,
      });
      if (!answer.ok) throw await problemOf(answer);
      this.on.line(true);
      alive();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done || era !== this.era) return;
        clearTimeout(silence);
        silence = setTimeout(() => stop.abort(), SILENCE_MS);
        const parts = (text + value).split("\n\n");
        text = parts.pop();
        for (const part of parts) this.event(part);
      }
    } finally {
      clearTimeout(silence);
      stop.abort();
    }
  }

  event(part) {
    let name = "", data = "";
    for (const line of part.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data += (data && "\n") + line.slice(6);
    }
    if (!name) return;
    const value = JSON.parse(data);
    if (name === "message") {
      if (value.seq <= this.last) return;
      this.last = value.seq;
      this.on.messages([value], { old: false });
    } else if (name === "state") this.on.state(value);
    else if (name === "typing") this.on.typing(value.for_s);
  }

  // Requests.

  async call(method, path, body, keepalive = false) {
    const answer = await fetch(`${this.base}/${path}`, {
      method, keepalive, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body),
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(this.token ? { Authorization: `Bearer ${this.token}` } : {}),
      },
    });
    if (!answer.ok) throw await problemOf(answer);
    return answer.status === 204 ? null : answer.json();
  }

  // Until the next try, or until there is reason to hope.
  async nap(tries, seconds) {
    const woken = new Promise((resolve) => { (this.sleepers ||= new Set()).add(resolve); });
    await Promise.race([woken, pause(seconds ? seconds * 1000 : delayOf(tries))]);
  }

  kick() {
    for (const wake of this.sleepers || []) wake();
    this.sleepers = new Set();
    void this.flush();
  }
}

function pause(ms) {
  return new Promise((resolve) => { setTimeout(resolve, ms); });
}

function delayOf(tries) {
  if (tries > QUICK_TRIES) return SLOW_MS;
  return QUICK_MS[Math.min(tries, QUICK_MS.length) - 1 < 0 ? 0 : Math.min(tries, QUICK_MS.length) - 1] * (0.8 + Math.random() * 0.2);
}

async function problemOf(answer) {
  let body = {};
  try { body = await answer.json(); } catch { /* no JSON: a proxy's page */ }
  const error = new Error(body.detail || `status ${answer.status}`);
  error.status = answer.status;
  error.after = body.retry_after;
  error.problems = body.errors || [];
  return error;
}
