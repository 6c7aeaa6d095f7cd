// Turns of a chat, as people see them.

import { copy, make, show } from "./elements.js";
import { GrowingMarkdown } from "./markdown.js";
import { countdown, ending, seconds, trouble } from "./wording.js";

export function userTurn(turn, { edit }) {
  const images = turn.images.map((url) => make("img", { src: url, alt: "An image that was sent" }));
  const actions = make("footer", {}, make("button", { type: "button", className: "plain", textContent: "Edit", onclick: edit }));
  const bubble = make("div", { className: "bubble" }, make("p", { textContent: turn.text }), ...images);
  show(bubble.firstElementChild, turn.text !== "");
  const element = make("article", { className: "turn user", ariaLabel: "You" }, bubble, actions);
  return { element, turn };
}

// Something in a conversation that is neither said nor thought.
export function otherTurn(turn) {
  const words = make("p", { className: "quiet", textContent: `(${turn.text.replaceAll("_", " ")})` });
  return { element: make("article", { className: "turn other" }, words), turn };
}

export class AnswerView {
  #thoughts = make("div", { className: "thoughts", tabIndex: 0 });
  #summary = make("summary", { textContent: "Thinking …" });
  #reasoning = make("details", { className: "reasoning hidden" }, this.#summary, this.#thoughts);
  #words = make("div", { className: "markdown" });
  #trouble = make("div", { className: "trouble hidden" });
  #figures = make("span", { className: "quiet figures" });
  #actions = make("footer", {});
  #shownThoughts = 0;
  #thinksSince = null;
  #timer = 0;

  // `retry` is called when somebody wants another answer.
  constructor(turn, { model = "", retry }) {
    this.turn = turn;
    const copies = make("button", { type: "button", className: "plain", textContent: "Copy" });
    copies.onclick = () => copy(this.turn.text, copies);
    this.retries = make("button", { type: "button", className: "plain retry", textContent: "Retry", onclick: retry });
    this.#actions.append(copies, this.retries, this.#figures);
    const name = make("header", { className: "quiet", textContent: model || "Answer" });
    this.element = make("article", { className: "turn assistant", ariaLabel: `Answer ${model}`.trim() });
    this.element.append(name, this.#reasoning, this.#words, this.#trouble, this.#actions);
    this.markdown = new GrowingMarkdown(this.#words);
    show(this.#actions, false);
  }

  // While it comes.
  grow() {
    const { text, reasoning } = this.turn;
    this.element.ariaBusy = "true";
    this.element.classList.toggle("waits", text === "" && reasoning === "");
    if (reasoning.length > this.#shownThoughts) this.#think(reasoning);
    if (text !== "") this.#speak(text);
  }

  #think(reasoning) {
    if (this.#thinksSince === null) {
      this.#thinksSince = performance.now();
      this.#reasoning.open = true;
      show(this.#reasoning, true);
    }
    this.#thoughts.append(reasoning.slice(this.#shownThoughts));
    this.#shownThoughts = reasoning.length;
    this.#thoughts.scrollTop = this.#thoughts.scrollHeight;
  }

  #speak(text) {
    this.#endThinking();
    this.markdown.grow(text);
  }

  #endThinking() {
    if (this.#thinksSince === null) return;
    this.#summary.textContent = `Thought for ${seconds(performance.now() - this.#thinksSince)}`;
    this.#reasoning.open = false;
    this.#thinksSince = null;
  }

  // When it is all there, or as much of it as there will be.
  end({ figures = "", error = null, finish = null } = {}) {
    const { text, reasoning, stopped } = this.turn;
    this.#endThinking();
    if (reasoning !== "" && this.#shownThoughts === 0) {
      this.#thoughts.append(reasoning);
      this.#shownThoughts = reasoning.length;
      this.#summary.textContent = "Reasoning";
      show(this.#reasoning, true);
    }
    this.element.ariaBusy = null;
    this.element.classList.remove("waits");
    this.markdown.end(text);
    this.#figures.textContent = [ending({ text, finish, stopped, error }), figures].filter(Boolean).join(" · ");
    show(this.#actions, true);
    if (error !== null) this.#tell(trouble(error), error.sign_in);
  }

  #tell({ title, text, waitSeconds, mayRetry }, signIn) {
    const line = make("p", { className: "quiet" });
    this.#trouble.replaceChildren(make("strong", { textContent: title }), make("p", { textContent: text }), line);
    if (signIn) this.#trouble.append(make("a", { href: signIn, className: "button", textContent: "Sign in" }));
    show(this.#trouble, true);
    show(this.retries, mayRetry);
    this.#trouble.role = "alert";
    if (mayRetry && waitSeconds > 0) this.#wait(line, performance.now() + waitSeconds * 1000);
  }

  #wait(line, until) {
    const left = Math.ceil((until - performance.now()) / 1000);
    line.textContent = countdown(left);
    this.retries.disabled = left > 0;
    if (left > 0) this.#timer = setTimeout(() => this.#wait(line, until), 1000);
  }

  remove() {
    clearTimeout(this.#timer);
    this.element.remove();
  }
}
