// The public API, called with a key that is nowhere but here, and the list of one's own conversations.

import { errorOf } from "./answer.js";
import { EventReader } from "./sse.js";

// A key is made anew this long before its end.
const MARGIN_SECONDS = 60;

// What was not answered as it should be: `code` as in docs/errors.md, or "network" or "signed_out".
export class Refusal extends Error {
  constructor({ status = 0, code = "", message = "", retryAfterSeconds = null }) {
    super(message);
    Object.assign(this, { status, code, retryAfterSeconds });
  }
}

// The key of whoever is signed in. `page` has `tenant` and `csrf_token`; `now` tells milliseconds.
export class Key {
  #secret = null;
  #endsAt = 0;
  #renewal = null;

  constructor(page, { fetch = globalThis.fetch.bind(globalThis), now = () => performance.now() } = {}) {
    Object.assign(this, { page, fetch, now });
  }

  async secret() {
    return this.#secret !== null && this.now() < this.#endsAt ? this.#secret : this.renew();
  }

  // Those who ask at once get one new secret.
  renew() {
    this.#renewal ??= this.#renew().finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  async #renew() {
    const { tenant, csrf_token } = this.page;
    const asked = this.now();
    const answer = await reached(
      this.fetch(`/playground/key/?tenant=${encodeURIComponent(tenant)}`, {
        method: "POST",
        headers: { "X-CSRFToken": csrf_token, Accept: "application/json" },
      }),
    );
    const isOurs = (answer.headers.get("content-type") ?? "").includes("json");
    if (answer.redirected || answer.status === 401 || !isOurs) {
      throw new Refusal({ status: answer.status, code: "signed_out" });
    }
    if (!answer.ok) throw await refusal(answer);
    const made = await answer.json();
    this.#secret = made.secret;
    this.#endsAt = asked + (made.lasts_seconds - MARGIN_SECONDS) * 1000;
    return this.#secret;
  }
}

export class Api {
  constructor(key, { fetch = globalThis.fetch.bind(globalThis) } = {}) {
    Object.assign(this, { key, fetch });
  }

  // The answer, if it is a good one. A key that was refused may have been made anew elsewhere: once more.
  async call(path, { method = "GET", body, headers = {}, signal } = {}) {
    const send = async (secret) =>
      reached(
        this.fetch(`/v1${path}`, {
          method,
          signal,
          credentials: "omit",
          headers: {
            ...headers,
            Authorization: `Bearer ${secret}`,
            ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          },
          body: body === undefined ? undefined : JSON.stringify(body),
        }),
      );
    let answer = await send(await this.key.secret());
    if (answer.status === 401) answer = await send(await this.key.renew());
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }

  async json(path, options) {
    return (await this.call(path, options)).json();
  }

  // The data of each event of a streamed answer.
  async *stream(path, options) {
    const answer = await this.call(path, { ...options, method: "POST" });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventReader();
    try {
      for (;;) {
        const { value, done } = await reached(reader.read());
        if (done) return;
        yield* events.feed(value);
      }
    } finally {
      reader.cancel().catch(() => {}); // of a stream that is broken already
    }
  }

  // Whoever is signed in, by their session: a key that calls models manages nothing.
  async session(path) {
    const answer = await reached(this.fetch(path, { headers: { Accept: "application/json" } }));
    if (answer.status === 401) throw new Refusal({ status: 401, code: "signed_out" });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }
}

// What the network answers; being told to stop is not its failure.
async function reached(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal({ code: "network" });
  }
}

async function refusal(answer) {
  const document = await answer.json().catch(() => null);
  const { code, message } = document?.error ? errorOf(document.error) : { code: "", message: answer.statusText };
  const wait = answer.headers.get("retry-after");
  const retryAfterSeconds = wait === null || Number.isNaN(Number(wait)) ? null : Number(wait);
  return new Refusal({ status: answer.status, code, message, retryAfterSeconds });
}
