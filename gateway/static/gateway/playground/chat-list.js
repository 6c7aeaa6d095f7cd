// The list of one's chats: opened, called something else, deleted.

import { found, make, show } from "./elements.js";
import { trouble } from "./wording.js";

export class ChatList {
  #rows = new Map();
  #next = null;
  #open = null;
  #list = found("chat-list");

  // `opened` is called with an id; `removed` with that of one which is no more.
  constructor(conversations, { opened, removed }) {
    Object.assign(this, { conversations, opened, removed });
    found("more-chats").onclick = () => this.#try(() => this.load());
  }

  load() {
    return this.#try(async () => {
      const { conversations, next } = await this.conversations.list(this.#next);
      this.#next = next;
      for (const { id, title } of conversations) if (!this.#rows.has(id)) this.#list.append(this.#row(id, title));
      show(found("more-chats"), next !== null);
      this.mark(this.#open);
      this.#count();
    });
  }

  add(id, title) {
    this.#list.prepend(this.#row(id, title));
    this.#count();
  }

  // Which of them is open; null: one that is not kept yet.
  mark(open) {
    this.#open = open;
    for (const [id, row] of this.#rows) row.querySelector(".open").ariaCurrent = id === open ? "true" : null;
  }

  #count() {
    show(found("no-chats"), this.#rows.size === 0);
  }

  #row(id, title) {
    const opens = make("button", { type: "button", className: "open", textContent: title, title });
    opens.onclick = () => this.opened(id);
    const renames = make("button", { type: "button", className: "plain", textContent: "Rename" });
    const removes = make("button", { type: "button", className: "plain", textContent: "Delete" });
    const menu = make("div", { className: "row-actions" }, renames, removes);
    const more = make("summary", { textContent: "⋯", ariaLabel: `More for ${title}` });
    const row = make("li", {}, opens, make("details", {}, more, menu));
    renames.onclick = () => this.#rename(id, row);
    removes.onclick = () => this.#remove(id, removes);
    row.addEventListener("focusout", (event) => {
      if (!row.contains(event.relatedTarget)) this.#close(row, removes);
    });
    this.#rows.set(id, row);
    return row;
  }

  #close(row, removes) {
    row.querySelector("details")?.removeAttribute("open");
    removes.textContent = "Delete";
  }

  #rename(id, row) {
    const title = row.querySelector(".open").textContent;
    const field = make("input", { value: title, maxLength: 200, ariaLabel: "Its new name", required: true });
    const saves = make("button", { className: "plain", textContent: "Save" });
    const form = make("form", { className: "rename" }, field, saves);
    const back = (called) => {
      const next = this.#row(id, called);
      form.closest("li").replaceWith(next);
      next.querySelector(".open").focus();
      this.mark(this.#open);
    };
    form.onkeydown = (event) => {
      if (event.key === "Escape") back(title);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      const called = field.value.trim() || title;
      this.#try(() => this.conversations.rename(id, called)).then((done) => back(done ? called : title));
    };
    const editing = make("li", {}, form);
    row.replaceWith(editing);
    field.select();
  }

  // A second press is wanted: nothing brings it back.
  #remove(id, button) {
    if (button.textContent === "Delete") {
      button.textContent = "Delete it?";
      return;
    }
    this.#try(() => this.conversations.remove(id)).then((done) => {
      if (!done) return;
      this.#rows.get(id).remove();
      this.#rows.delete(id);
      this.#count();
      this.removed(id);
    });
  }

  // Whether it was done; if not, what was in the way stands below the list.
  async #try(step) {
    const line = found("chats-trouble");
    try {
      await step();
      line.textContent = "";
      return true;
    } catch (error) {
      const { title, text } = trouble(error);
      line.textContent = `${title}. ${text}`;
      return false;
    }
  }
}
