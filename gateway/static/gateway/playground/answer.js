// What comes of the events of one streamed chat completion. Pure.

const UNREADABLE = { code: "unreadable", message: "The answer holds something that is no event of a chat." };
const CUT = { code: "cut", message: "The stream ended before the answer was whole." };

export class Answer {
  text = "";
  reasoning = "";
  usage = null;
  finish = null;
  error = null;
  done = false;

  // Takes the data of one event; what comes after an error or the end means nothing.
  take(data) {
    if (this.done || this.error) return;
    if (data === "[DONE]") {
      this.done = true;
      return;
    }
    const chunk = parsed(data);
    if (chunk === null) this.error = UNREADABLE;
    else if (chunk.error) this.error = { ...errorOf(chunk.error), midway: true };
    else this.#add(chunk);
  }

  // The stream has ended; a good one said so before.
  close() {
    if (!this.done && !this.error) this.error = CUT;
  }

  #add(chunk) {
    if (isObject(chunk.usage)) this.usage = chunk.usage;
    const choice = Array.isArray(chunk.choices) ? chunk.choices[0] : undefined;
    if (!isObject(choice)) return;
    const delta = isObject(choice.delta) ? choice.delta : {};
    this.text += said(delta.content) || said(delta.refusal);
    this.reasoning += said(delta.reasoning_content) || said(delta.reasoning);
    if (typeof choice.finish_reason === "string") this.finish = choice.finish_reason;
  }
}

// An error object as APIs give it, or something like it.
export function errorOf(given) {
  if (!isObject(given)) return { code: "", message: String(given) };
  return { code: said(given.code) || said(given.type), message: said(given.message) };
}

function parsed(data) {
  try {
    const document = JSON.parse(data);
    return isObject(document) ? document : null;
  } catch {
    return null;
  }
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function said(value) {
  return typeof value === "string" ? value : "";
}
