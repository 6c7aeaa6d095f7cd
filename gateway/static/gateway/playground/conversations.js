// The conversations of whoever is signed in, kept by the gateway; what is said is written down in its order.

import { itemsOf, systemItem, titleOf, turnsOf } from "./items.js";

const PAGE = 100;

export class Conversations {
  constructor(api, tenant) {
    Object.assign(this, { api, tenant });
  }

  // Newest first: `{conversations, next}`; `next` is where the list goes on, or null.
  async list(next = null) {
    const first = `/api/threads/?tenant=${encodeURIComponent(this.tenant)}&mine=true&conversation=true&limit=30`;
    const found = await this.api.session(next ?? first);
    const conversations = found.results.map((row) => ({
      id: row.conversation_id,
      title: row.metadata?.title || row.title || "Untitled",
      metadata: row.metadata ?? {},
    }));
    return { conversations, next: found.next && new URL(found.next).pathname + new URL(found.next).search };
  }

  async open(id) {
    const items = [];
    for (let after = ""; after !== null; ) {
      const page = await this.api.json(`/conversations/${id}/items?order=asc&limit=${PAGE}${after}`);
      items.push(...page.data);
      after = page.has_more ? `&after=${page.last_id}` : null;
    }
    return turnsOf(items);
  }

  async rename(id, title) {
    const { metadata } = await this.api.json(`/conversations/${id}`);
    await this.api.json(`/conversations/${id}`, { method: "POST", body: { metadata: { ...metadata, title } } });
  }

  async remove(id) {
    await this.api.json(`/conversations/${id}`, { method: "DELETE" });
  }
}

// One conversation as it grows. `created` is told its id and title when it comes to be.
export class Record {
  #work = Promise.resolve();
  #waiting = [];
  #system = "";

  constructor(api, { id = null, system = "", created = () => {} } = {}) {
    Object.assign(this, { api, id, created });
    this.#system = system;
  }

  // Writes a turn down that was said under this system prompt, after all that was told before, and that could not
  // be written down then; the turn then knows the ids of its items.
  add(turn, system) {
    this.#waiting.push({ turn, system });
    return this.#next(async () => {
      while (this.#waiting.length > 0) {
        await this.#write(this.#waiting[0]);
        this.#waiting.shift();
      }
    });
  }

  // Takes turns away, such as an answer that is made once more.
  take(turns) {
    return this.#next(async () => {
      this.#waiting = this.#waiting.filter(({ turn }) => !turns.includes(turn));
      for (const id of turns.flatMap((turn) => turn.ids ?? [])) {
        await this.api.json(`/conversations/${this.id}/items/${id}`, { method: "DELETE" });
      }
    });
  }

  async #write({ turn, system }) {
    const items = [...(system === this.#system ? [] : [systemItem(system)]), ...itemsOf(turn)];
    if (this.id === null) await this.#create(titleOf(turn));
    const { data } = await this.api.json(`/conversations/${this.id}/items`, { method: "POST", body: { items } });
    this.#system = system;
    turn.ids = data.slice(-itemsOf(turn).length).map((item) => item.id);
  }

  async #create(title) {
    const made = await this.api.json("/conversations", { method: "POST", body: { metadata: { title } } });
    this.id = made.id;
    this.created(made.id, title);
  }

  // One after the other; that one failed does not keep the next from being tried.
  #next(step) {
    const done = this.#work.then(step);
    this.#work = done.catch(() => {});
    return done;
  }
}
