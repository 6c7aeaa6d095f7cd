// Markdown that a model wrote, as elements that can do nothing: no scripts, no styles, nothing loaded from anywhere.

import { Marked } from "../vendor/marked.js";
import "../vendor/purify.js";

// A draw that takes long is followed by a pause of so many times its length.
const PAUSE = 4;
// The last blocks of an unfinished text may yet become others.
const UNSETTLED = 2;

const markdown = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escaped(text),
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || "Image")} (not loaded)</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

const purify = globalThis.DOMPurify(globalThis);
const HARMLESS = {
  ALLOWED_TAGS: [
    ...["a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p"],
    ...["pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ],
  ALLOWED_ATTR: ["align", "class", "href", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  RETURN_DOM_FRAGMENT: true,
};
purify.addHook("uponSanitizeAttribute", (element, attribute) => {
  if (attribute.attrName === "class") {
    attribute.keepAttr = element.localName === "code" && /^language-[\w+#.-]{1,30}$/.test(attribute.attrValue);
  }
});
purify.addHook("afterSanitizeAttributes", (element) => {
  if (element.localName !== "a") return;
  element.setAttribute("rel", "noopener noreferrer nofollow");
  element.setAttribute("target", "_blank");
});

function escaped(text) {
  const names = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => names[character]);
}

function elementsOf(tokens) {
  const fragment = purify.sanitize(markdown.parser(tokens), HARMLESS);
  for (const block of fragment.querySelectorAll("pre")) frame(block);
  for (const table of fragment.querySelectorAll("table")) scrolling(table);
  return fragment;
}

// A block of code, below what language it is in and a button that copies it.
function frame(block) {
  const [, language] = /language-(.+)/.exec(block.firstElementChild?.className ?? "") ?? [];
  const copy = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
  copy.dataset.copies = "code";
  const bar = Object.assign(document.createElement("div"), { className: "code-bar" });
  bar.append(Object.assign(document.createElement("span"), { textContent: language ?? "" }), copy);
  const framed = Object.assign(document.createElement("div"), { className: "code" });
  block.replaceWith(framed);
  block.tabIndex = 0; // what scrolls can be reached by keyboard
  framed.append(bar, block);
}

function scrolling(table) {
  const around = Object.assign(document.createElement("div"), { className: "scrolls", tabIndex: 0 });
  table.replaceWith(around);
  around.append(table);
}

// A text that grows, drawn into an element. Blocks that are settled are not drawn again.
export class GrowingMarkdown {
  #text = "";
  #settled = 0;
  #tail = document.createComment("");
  #frame = 0;
  #resumesAt = 0;

  constructor(element) {
    this.element = element;
    element.replaceChildren(this.#tail);
  }

  // Draws the text, as it is by then, when the browser draws next.
  grow(text) {
    this.#text = text;
    this.#frame ||= requestAnimationFrame(this.#draw);
  }

  // The whole text is there: drawn at once, and as one.
  end(text) {
    cancelAnimationFrame(this.#frame);
    const whole = Object.assign(document.createElement("div"), { className: this.element.className });
    whole.append(elementsOf(markdown.lexer(text)));
    this.#tail.remove();
    if (whole.innerHTML !== this.element.innerHTML) this.element.replaceChildren(...whole.childNodes);
  }

  #draw = () => {
    this.#frame = 0;
    const begins = performance.now();
    if (begins < this.#resumesAt) {
      this.#frame = requestAnimationFrame(this.#draw);
      return;
    }
    this.#drawTail();
    const ends = performance.now();
    this.#resumesAt = ends + PAUSE * (ends - begins);
  };

  #drawTail() {
    const rest = this.#text.replace(/\r\n?/g, "\n").slice(this.#settled);
    const tokens = markdown.lexer(rest);
    while (this.#tail.nextSibling) this.#tail.nextSibling.remove();
    const open = openFrom(tokens);
    const settled = tokens.slice(0, open);
    const raw = settled.map((token) => token.raw).join("");
    if (raw !== "" && rest.startsWith(raw)) {
      this.#tail.before(elementsOf(settled));
      this.#tail.after(elementsOf(tokens.slice(open)));
      this.#settled += raw.length;
    } else {
      this.#tail.after(elementsOf(tokens));
    }
  }
}

// Where the blocks begin that may change yet.
function openFrom(tokens) {
  let blocks = 0;
  for (let place = tokens.length - 1; place >= 0; place -= 1) {
    if (tokens[place].type !== "space") blocks += 1;
    if (blocks === UNSETTLED) return place;
  }
  return 0;
}
