// Where a message is written: its words, and the images that go with it.

import { found, make, show } from "./elements.js";
import { dataUrlOf, MOST_CHARACTERS, MOST_IMAGES, NotSendable } from "./images.js";

export class Composer {
  #images = [];
  #words = found("words");
  #list = found("images");
  #trouble = found("composer-trouble");

  // `send` is called with `{text, images}`; false: it is not a good moment, and the words stay.
  constructor(send) {
    this.send = send;
    found("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#words.addEventListener("keydown", (event) => this.#press(event));
    this.#words.addEventListener("input", () => this.#fit());
    this.#words.addEventListener("paste", (event) => this.#add([...event.clipboardData.files], event));
    found("files").addEventListener("change", (event) => {
      this.#add([...event.target.files]);
      event.target.value = "";
    });
    const talk = document.querySelector(".talk");
    talk.addEventListener("dragover", (event) => event.preventDefault());
    talk.addEventListener("drop", (event) => this.#add([...event.dataTransfer.files], event));
  }

  // What is written and not sent yet; null where that is nothing.
  draft() {
    const text = this.#words.value.trim();
    return text === "" && this.#images.length === 0 ? null : { text, images: [...this.#images] };
  }

  write({ text, images }) {
    this.#words.value = text;
    this.#images = [...images];
    this.#draw();
    this.#fit();
    this.#words.focus();
  }

  clear() {
    this.write({ text: "", images: [] });
    this.#say("");
  }

  #submit() {
    const draft = this.draft();
    if (draft !== null && this.send(draft) !== false) this.clear();
  }

  // Enter sends, but where fingers type: there it is the only way to begin a line.
  #press(event) {
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!sends || matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    this.#submit();
  }

  async #add(files, event) {
    if (files.length === 0) return;
    event?.preventDefault();
    this.#say("");
    for (const file of files) {
      try {
        await this.#addImage(file);
      } catch (error) {
        if (!(error instanceof NotSendable)) throw error;
        this.#say(error.message);
      }
    }
    this.#draw();
  }

  async #addImage(file) {
    if (this.#images.length >= MOST_IMAGES) throw new NotSendable(`${MOST_IMAGES} images go with a message at most.`);
    const url = await dataUrlOf(file);
    if (this.#images.join("").length + url.length > MOST_CHARACTERS) {
      throw new NotSendable(`With ${file.name} the images are too large for one message.`);
    }
    this.#images.push(url);
  }

  #draw() {
    const thumbnails = this.#images.map((url, place) => {
      const removes = make("button", { type: "button", className: "plain", textContent: "×" });
      removes.ariaLabel = `Remove image ${place + 1}`;
      removes.onclick = () => {
        this.#images.splice(place, 1);
        this.#draw();
        this.#words.focus();
      };
      return make("li", {}, make("img", { src: url, alt: `Image ${place + 1}` }), removes);
    });
    this.#list.replaceChildren(...thumbnails);
    show(this.#list, thumbnails.length > 0);
  }

  #say(text) {
    this.#trouble.textContent = text;
    show(this.#trouble, text !== "");
  }

  // Browsers that know `field-sizing` need no help.
  #fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.#words.style.height = "auto";
    this.#words.style.height = `${this.#words.scrollHeight}px`;
  }
}
