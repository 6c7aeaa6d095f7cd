// Shows calls as they are made. What comes of callers (models, names) is put in as text and never as markup.
//
// It is told over a WebSocket; where that does not get through it asks every POLL_MS instead, and tries the
// socket again now and then. The messages are those of gateway/live_view.py.

const OPEN_MS = 4000;
const SILENT_MS = 25000;
const POLL_MS = 2000;
const SOCKET_AGAIN_MS = 30000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
const TRIES_BEFORE_POLLING = 2;
const SIGNED_OUT = 4401;
const FORBIDDEN = 4403;

const STATES = {
  connecting: "Connecting",
  live: "Live",
  polling: "Polling: no WebSocket gets through, so this asks every two seconds",
  lost: "The connection is lost; trying again",
};

const numbers = new Intl.NumberFormat();

// The time of day where the page's other times are, too.
function clockOf(timeZone) {
  const parts = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  return new Intl.DateTimeFormat(undefined, { ...parts, timeZone });
}

function duration(ms) {
  if (ms === null) return "–";
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60000)} min ${String(Math.floor((ms % 60000) / 1000)).padStart(2, "0")} s`;
}

function count(number) {
  return number === null ? "–" : numbers.format(number);
}

function element(name, className = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}

/** A cell with a text, and a quieter one below it. */
function cell(text, below = "", className = "") {
  const made = element("td", className);
  made.setAttribute("role", "cell");
  made.append(document.createTextNode(text));
  if (below) made.append(Object.assign(element("small"), { textContent: below }));
  return made;
}

function numberCell(label, text) {
  const made = cell(text, "", "number");
  made.dataset.label = label;
  return made;
}

function row(...cells) {
  const made = element("tr", "new");
  made.setAttribute("role", "row");
  made.append(...cells);
  return made;
}

function setText(node, text) {
  if (node.firstChild.data !== text) node.firstChild.data = text;
}

/** What is running and what has ended lately, as the batches tell it. */
class Calls {
  constructor(shown) {
    this.shown = shown;
    this.known = new Map();
    this.running = [];
    this.ended = [];
    this.totals = {};
    this.leftOut = 0;
    this.missed = 0;
    this.everywhere = true;
  }

  take(batch) {
    const now = performance.now();
    for (const call of batch.begun) {
      if (!this.known.has(call.id)) this.known.set(call.id, { ...call, startedAt: now - call.age_ms });
    }
    this.running = batch.running
      .filter(([id]) => this.known.has(id))
      .map(([id, answering, tokens, rate]) => Object.assign(this.known.get(id), { answering, tokens, rate }));
    const there = new Set(this.running.map((call) => call.id));
    for (const id of this.known.keys()) if (!there.has(id)) this.known.delete(id);
    const before = new Set(this.ended.map((call) => call.id));
    const fresh = batch.ended.filter((call) => !before.has(call.id));
    for (const call of fresh) call.endedAt = Date.now() - call.ago_ms;
    this.ended = [...fresh, ...this.ended].sort((one, other) => other.endedAt - one.endedAt).slice(0, this.shown);
    this.totals = batch;
    this.leftOut += batch.left_out;
    this.missed += batch.missed;
    this.everywhere = batch.everywhere;
  }
}

/** One panel of a page. */
class Panel {
  constructor(root) {
    this.root = root;
    this.ofAll = "ofAll" in root.dataset;
    this.clock = clockOf(root.dataset.zone);
    this.query = root.dataset.tenant ? `?tenant=${encodeURIComponent(root.dataset.tenant)}` : "";
    this.calls = new Calls(Number(root.dataset.rows));
    this.rows = new Map();
    this.paused = false;
    this.over = false;
    this.part("pause").addEventListener("click", () => this.pause());
    setInterval(() => this.draw(), 1000);
    new Connection(this.query, {
      state: (name) => this.state(name),
      batch: (batch) => this.take(batch),
      end: (text) => this.end(text),
    }).open();
  }

  part(name) {
    return this.root.querySelector(`[data-part="${name}"]`);
  }

  state(name, text = STATES[name]) {
    this.root.querySelector("[data-state]").dataset.state = name;
    if (this.part("state").textContent !== text) this.part("state").textContent = text;
  }

  end(text) {
    this.over = true;
    this.calls = new Calls(0);
    this.state("ended", text);
    this.part("pause").disabled = true;
    this.draw();
  }

  pause() {
    this.paused = !this.paused;
    this.part("pause").setAttribute("aria-pressed", String(this.paused));
    this.part("pause").textContent = this.paused ? "Resume" : "Pause";
    this.draw();
  }

  take(batch) {
    this.calls.take(batch);
    if (!this.drawing) this.drawing = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.drawing = 0;
    if (this.paused && !this.over) return;
    for (const node of this.root.querySelectorAll("[data-total]")) {
      node.textContent = count(this.calls.totals[node.dataset.total] ?? null);
    }
    const running = this.calls.running.slice(0, this.calls.shown);
    this.place(this.part("running"), running, (call) => this.runningRow(call));
    for (const call of running) this.refresh(this.rows.get(call.id), call);
    this.place(this.part("ended"), this.calls.ended, (call) => this.endedRow(call));
    const more = (this.calls.totals.running_count ?? 0) - running.length;
    this.part("idle").hidden = running.length > 0 && more <= 0;
    this.part("idle").textContent = more > 0 ? `And ${count(more)} more.` : "Nothing is running.";
    this.part("none").hidden = this.calls.ended.length > 0;
    this.note();
  }

  note() {
    const { leftOut, missed, everywhere } = this.calls;
    const said = [];
    if (!everywhere) said.push("Redis cannot be reached: only calls of this one process are shown.");
    if (leftOut) said.push(`${count(leftOut)} more calls ended than can be shown.`);
    if (missed) said.push(`Your connection is slow: ${count(missed)} updates were left out.`);
    this.part("note").textContent = said.join(" ");
    this.part("note").hidden = said.length === 0;
  }

  /** Puts a row for each call into the table, in this order; a row that is there already stays. */
  place(body, calls, make) {
    const wanted = new Set(calls.map((call) => call.id));
    for (const there of [...body.children]) {
      if (!wanted.has(there.dataset.call)) there.remove();
    }
    let next = body.firstElementChild;
    for (const call of calls) {
      if (next?.dataset.call === call.id) {
        next = next.nextElementSibling;
        continue;
      }
      const made = [...body.children].find((there) => there.dataset.call === call.id) ?? make(call);
      made.dataset.call = call.id;
      if (body === this.part("running")) this.rows.set(call.id, made);
      body.insertBefore(made, next);
    }
    if (body === this.part("running")) {
      for (const id of this.rows.keys()) if (!wanted.has(id)) this.rows.delete(id);
    }
  }

  who(call) {
    const name = call.user || call.key || (call.tenant ? "anybody" : "unknown");
    const more = [this.ofAll ? call.tenant : "", call.user ? call.key : ""].filter(Boolean);
    return cell(name, more.join(" · "));
  }

  runningRow(call) {
    const made = row(
      cell(call.model, call.endpoint),
      this.who(call),
      numberCell("Age", "–"),
      numberCell("Tokens", "–"),
      numberCell("Tokens/s", "–"),
    );
    return made;
  }

  refresh(made, call) {
    const [, , age, tokens, rate] = made.children;
    setText(age, duration(Math.max(0, Math.round((performance.now() - call.startedAt) / 100) * 100)));
    setText(tokens, call.tokens === null ? (call.answering ? "–" : "waiting") : count(call.tokens));
    setText(rate, call.tokens === null ? "–" : count(call.rate));
  }

  endedRow(call) {
    const well = call.status === "completed";
    const told = [call.status_code ?? "", call.error_code, call.limit].filter(Boolean).join(" · ");
    const how = cell(call.status, well ? "" : told);
    how.classList.add(well ? "good" : "bad");
    return row(
      cell(call.model || "–", call.endpoint),
      this.who(call),
      how,
      numberCell("Took", duration(call.duration_ms)),
      numberCell("Tokens", count(call.output_tokens)),
      numberCell("Cost", call.cost_usd ?? "–"),
      numberCell("At", this.clock.format(call.endedAt)),
    );
  }
}

/** The way to the gateway: a socket, else asking. `hears` is told states, batches and the end of it all. */
class Connection {
  constructor(query, hears) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socketUrl = `${scheme}//${location.host}/ws/live/${query}`;
    this.pollUrl = `/dashboard/live/events${query}`;
    this.hears = hears;
    this.failures = 0;
    this.over = false;
  }

  open() {
    if (this.over) return;
    let opened = false;
    const socket = new WebSocket(this.socketUrl);
    const giveUp = () => socket.close();
    let timer = setTimeout(giveUp, OPEN_MS);
    socket.onmessage = (message) => {
      clearTimeout(timer);
      timer = setTimeout(giveUp, SILENT_MS);
      if (!opened) {
        opened = true;
        this.failures = 0;
        this.stopPolling();
        this.hears.state("live");
      }
      this.hears.batch(JSON.parse(message.data));
    };
    socket.onclose = (closing) => {
      clearTimeout(timer);
      this.closed(closing.code, opened);
    };
  }

  closed(code, opened) {
    if (code === SIGNED_OUT) return this.end("You are signed out.");
    if (code === FORBIDDEN) return this.end("You may not see these calls any more.");
    this.failures += 1;
    if (!opened && this.failures >= TRIES_BEFORE_POLLING) {
      this.startPolling();
      setTimeout(() => this.open(), SOCKET_AGAIN_MS);
      return;
    }
    this.hears.state(opened ? "lost" : "connecting");
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.failures - 1));
    setTimeout(() => this.open(), wait * (0.5 + Math.random() / 2));
  }

  startPolling() {
    if (this.polling) return;
    this.polling = true;
    this.poll();
  }

  stopPolling() {
    this.polling = false;
    clearTimeout(this.pollTimer);
  }

  async poll() {
    if (!this.polling || this.over) return;
    try {
      const answer = await fetch(this.pollUrl, { headers: { accept: "application/json" } });
      if (!this.polling) return;
      if (answer.status >= 400 && answer.status < 500) {
        const { error } = await answer.json();
        return this.end(answer.status === 401 ? "You are signed out." : error.message);
      }
      if (answer.ok) this.hears.batch(await answer.json());
      this.hears.state(answer.ok ? "polling" : "lost");
    } catch {
      this.hears.state("lost");
    }
    this.pollTimer = setTimeout(() => this.poll(), POLL_MS);
  }

  end(text) {
    this.over = true;
    this.stopPolling();
    this.hears.end(text);
  }
}

for (const root of document.querySelectorAll("[data-live]")) new Panel(root);
