// One chat: what was said in it, the call under way, and where it is kept.

import { Answer } from "./answer.js";
import { Record } from "./conversations.js";
import { found, make, show } from "./elements.js";
import { chatBody, chatHeaders } from "./request.js";
import { AnswerView, otherTurn, userTurn } from "./turns.js";
import { figures } from "./wording.js";

const NEAR_PIXELS = 60;

export class Chat {
  #views = [];
  #call = null;
  #record = null;
  #log = found("log");
  #follows = true;
  #top = 0;

  // `page` has `api`, `settings`, `composer`, `created(id, title)` and `sign_in`.
  constructor(page) {
    this.page = page;
    this.#log.addEventListener("scroll", () => this.#noticeScroll());
    const sizes = new ResizeObserver(() => this.#stick());
    for (const element of [this.#log, found("turns")]) sizes.observe(element);
    found("latest").onclick = () => this.#toLatest();
    found("stop").onclick = () => this.stop();
    this.open();
  }

  get id() {
    return this.#record.id;
  }

  // A chat that is kept under this id, with what was said so far; without one a new chat.
  open({ id = null, turns = [], system = "" } = {}) {
    this.stop();
    this.#call = null;
    this.#record = new Record(this.page.api, { id, system, created: this.page.created });
    for (const view of this.#views.splice(0)) view.element.remove();
    for (const turn of turns) this.#add(this.#viewOf(turn));
    found("said").textContent = "";
    this.#arrange();
    this.#toLatest();
  }

  // False where another answer is still coming.
  send({ text, images }) {
    if (this.#call !== null || this.page.settings.read().model === "" || !this.page.settings.check()) return false;
    const turn = { role: "user", text, images };
    this.#add(this.#viewOf(turn));
    this.#kept(this.#record.add(turn, this.page.settings.read().system));
    this.#answer();
    return true;
  }

  stop() {
    this.#call?.abort();
  }

  // The call that these turns make; for those who want it as code.
  request(draft) {
    const settings = this.page.settings.read();
    const turns = this.#turns();
    const asked = draft === null ? upToQuestion(turns) : [...turns, { role: "user", ...draft }];
    const said = asked.length === 0 ? [{ role: "user", text: "Hello", images: [] }] : asked;
    return { body: chatBody(settings, said), headers: chatHeaders(settings) };
  }

  #turns() {
    return this.#views.map((view) => view.turn).filter((turn) => turn.role !== "other");
  }

  #viewOf(turn) {
    if (turn.role === "user") return userTurn(turn, { edit: () => this.#edit() });
    if (turn.role === "other") return otherTurn(turn);
    const view = this.#answerView(turn);
    view.end();
    return view;
  }

  #answerView(turn, model) {
    return new AnswerView(turn, { model, retry: () => this.#retry() });
  }

  #add(view) {
    this.#views.push(view);
    found("turns").append(view.element);
  }

  async #answer() {
    const settings = this.page.settings.read();
    const body = chatBody(settings, this.#turns());
    const turn = { role: "assistant", text: "", reasoning: "", images: [], stopped: false };
    const view = this.#answerView(turn, settings.model);
    const call = new AbortController();
    const record = this.#record;
    this.#call = call;
    this.#add(view);
    this.#arrange();
    this.#toLatest();
    view.grow();
    const ended = await this.#stream(body, chatHeaders(settings), view, call.signal, settings.showsReasoning);
    if (turn.text !== "") this.#kept(record.add(turn, settings.system));
    view.end(ended);
    if (this.#call !== call) return; // another chat was opened meanwhile
    this.#call = null;
    this.#arrange();
    found("said").textContent = ended.error === null ? "The answer is there." : "";
  }

  // Streams an answer into its view. What it says of its end: `{figures, error, finish}`.
  async #stream(body, headers, view, signal, showsReasoning) {
    const { turn } = view;
    const answer = new Answer();
    const began = performance.now();
    let firstMilliseconds = null;
    let error = null;
    try {
      for await (const data of this.page.api.stream("/chat/completions", { body, headers, signal })) {
        answer.take(data);
        turn.text = answer.text;
        turn.reasoning = showsReasoning ? answer.reasoning : "";
        if (answer.text !== "" || answer.reasoning !== "") firstMilliseconds ??= performance.now() - began;
        view.grow();
      }
      answer.close();
      error = answer.error;
    } catch (problem) {
      turn.stopped = signal.aborted;
      error = signal.aborted ? null : told(problem, this.page.sign_in);
    }
    const totalMilliseconds = performance.now() - began;
    const took = figures({ usage: answer.usage, firstMilliseconds, totalMilliseconds });
    return { figures: took, error, finish: answer.finish };
  }

  // Another answer to what was said last.
  #retry() {
    if (this.#call !== null) return;
    this.#takeFrom(this.#views.findLastIndex((view) => view.turn.role === "user") + 1);
    this.#answer();
  }

  // What was said last, to be said otherwise.
  #edit() {
    if (this.#call !== null) return;
    const place = this.#views.findLastIndex((view) => view.turn.role === "user");
    const { turn } = this.#views[place];
    this.#takeFrom(place);
    this.page.composer.write(turn);
    this.#arrange();
  }

  #takeFrom(place) {
    const taken = this.#views.splice(place);
    for (const view of taken) view.element.remove();
    this.#kept(this.#record.take(taken.map((view) => view.turn)));
  }

  // A chat goes on where it cannot be kept, and says so.
  async #kept(writing) {
    const line = found("keeping");
    try {
      await writing;
      show(line, false);
    } catch (problem) {
      line.textContent = `This chat is not being saved: ${problem.message || "the connection was lost."}`;
      show(line, true);
    }
  }

  // What can be done now: send or stop; and only what was said last can be said, or answered, otherwise.
  #arrange() {
    const isBusy = this.#call !== null;
    show(found("welcome"), this.#views.length === 0);
    show(found("send"), !isBusy);
    show(found("stop"), isBusy);
    const lastQuestion = this.#views.findLastIndex((view) => view.turn.role === "user");
    for (const [place, view] of this.#views.entries()) {
      view.element.classList.toggle("last", !isBusy && place >= lastQuestion);
    }
  }

  // Whoever goes back to what was said before is left there, until they come down again.

  #noticeScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#log;
    if (scrollHeight - scrollTop - clientHeight < NEAR_PIXELS) this.#follows = true;
    else if (scrollTop < this.#top) this.#follows = false;
    this.#top = scrollTop;
    show(found("latest"), !this.#follows);
  }

  #stick() {
    if (this.#follows) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #toLatest() {
    this.#follows = true;
    this.#stick();
    show(found("latest"), false);
  }
}

function upToQuestion(turns) {
  return turns.slice(0, turns.findLastIndex((turn) => turn.role === "user") + 1);
}

// What went wrong; who is signed out is told where to sign in.
function told(problem, signIn) {
  if (typeof problem.code !== "string") throw problem; // a mistake of this page
  const { status, code, message, retryAfterSeconds } = problem;
  return { status, code, message, retryAfterSeconds, sign_in: code === "signed_out" ? signIn : null };
}
