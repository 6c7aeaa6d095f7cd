// START HERE: what belongs to what on the page.

import { Api, Key } from "./api.js";
import { Chat } from "./chat.js";
import { ChatList } from "./chat-list.js";
import { Composer } from "./composer.js";
import { Conversations } from "./conversations.js";
import { copy, found } from "./elements.js";
import { Settings } from "./settings.js";
import { arrangeSides, closeSides } from "./sides.js";
import * as snippets from "./snippets.js";
import { trouble } from "./wording.js";

const given = JSON.parse(found("playground").textContent);
const api = new Api(new Key(given));
const settings = new Settings();
const conversations = new Conversations(api, given.tenant);
const composer = new Composer((draft) => chat.send(draft));
const list = new ChatList(conversations, { opened: open, removed });
const chat = new Chat({ api, settings, composer, created, sign_in: signIn() });

function signIn() {
  const back = encodeURIComponent(location.pathname + location.search);
  return `${given.sign_in}?next=${back}`;
}

async function offerModels() {
  try {
    const { data } = await api.json("/models");
    settings.offer(data.map((model) => model.id), given.default_model);
    if (data.length === 0) welcome("No model is reachable here yet. An operator adds upstreams and models in the admin.");
  } catch (error) {
    settings.offer([]);
    const { title, text } = trouble(error);
    welcome(`${title}. ${text}`);
  }
}

function welcome(words) {
  found("welcome-words").textContent = words;
}

// The address has the chat that is open, so that it is there again when the page is loaded once more.
function created(id, title) {
  list.add(id, title);
  mark(id);
}

function mark(id) {
  history.replaceState(null, "", id === null ? location.pathname + location.search : `#${id}`);
  list.mark(id);
}

async function open(id) {
  closeSides();
  try {
    const { turns, system } = await conversations.open(id);
    settings.fields.system.value = system;
    chat.open({ id, turns, system });
    mark(id);
  } catch (error) {
    begin();
    const { title, text } = trouble(error);
    welcome(`${title}. ${text}`);
  }
}

function begin() {
  closeSides();
  chat.open();
  mark(null);
  found("words").focus();
}

function removed(id) {
  if (chat.id === id) begin();
}

function copiesAs(button) {
  const call = { baseUrl: given.base_url, ...chat.request(composer.draft()) };
  return copy(snippets[button.dataset.copyAs](call), button);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copyAs) copiesAs(button);
  if (button?.dataset.copies === "code") copy(button.closest(".code").querySelector("pre").textContent, button);
});
found("new-chat").onclick = begin;
document.getElementById("tenant")?.addEventListener("change", (event) => {
  location.assign(`?tenant=${encodeURIComponent(event.target.value)}`);
});

arrangeSides();
if (matchMedia("(pointer: fine)").matches) found("words").focus(); // elsewhere a keyboard would come up
offerModels();
list.load();
if (/^#conv_[0-9a-f]+$/.test(location.hash)) open(location.hash.slice(1));
