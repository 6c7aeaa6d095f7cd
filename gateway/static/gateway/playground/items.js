// Turns of a chat as the items of a conversation, and back. Pure.

const LONGEST_TITLE = 60;

export function systemItem(text) {
  return { type: "message", role: "system", content: [{ type: "input_text", text }] };
}

// The items that keep a turn, in their order.
export function itemsOf(turn) {
  if (turn.role === "user") return [userItem(turn)];
  const thoughts = { type: "reasoning", summary: [], content: [{ type: "reasoning_text", text: turn.reasoning }] };
  const said = {
    type: "message",
    role: "assistant",
    status: turn.stopped ? "incomplete" : "completed",
    content: [{ type: "output_text", text: turn.text, annotations: [] }],
  };
  return turn.reasoning ? [thoughts, said] : [said];
}

function userItem(turn) {
  const text = turn.text === "" ? [] : [{ type: "input_text", text: turn.text }];
  const images = turn.images.map((url) => ({ type: "input_image", image_url: url, detail: "auto" }));
  return { type: "message", role: "user", content: [...text, ...images] };
}

// The turns that items tell, each with the ids of its items, and the newest system prompt. What is neither said
// nor thought, such as a tool's call, is a turn of the role "other".
export function turnsOf(items) {
  const turns = [];
  let system = "";
  let thoughts = { text: "", ids: [] };
  for (const item of items) {
    if (item.type === "reasoning") {
      const text = textOf(item.content) || textOf(item.summary);
      thoughts = { text: thoughts.text + text, ids: [...thoughts.ids, item.id] };
    } else if (item.type === "message" && (item.role === "system" || item.role === "developer")) {
      system = textOf(item.content);
    } else {
      turns.push(turnOf(item, thoughts));
      thoughts = { text: "", ids: [] };
    }
  }
  return { turns, system };
}

function turnOf(item, thoughts) {
  const turn = { role: "other", text: String(item.type), images: [], reasoning: thoughts.text, stopped: false };
  turn.ids = [...thoughts.ids, item.id];
  if (item.type !== "message") return turn;
  const role = item.role === "assistant" ? "assistant" : "user";
  const stopped = role === "assistant" && item.status === "incomplete";
  return { ...turn, role, stopped, text: textOf(item.content), images: imagesOf(item.content) };
}

function textOf(content) {
  if (typeof content === "string") return content;
  const parts = Array.isArray(content) ? content : [];
  return parts.map((part) => part.text ?? part.refusal ?? "").filter(Boolean).join("\n");
}

// Only what is there itself: another address would be loaded from wherever it is.
function imagesOf(content) {
  const parts = Array.isArray(content) ? content : [];
  const urls = parts.map((part) => (part.type === "input_image" ? part.image_url : null));
  return urls.filter((url) => typeof url === "string" && url.startsWith("data:image/"));
}

// What a chat is called until somebody calls it something else.
export function titleOf(turn) {
  const words = turn.text.replace(/\s+/g, " ").trim();
  const characters = [...words];
  if (characters.length === 0) return turn.images.length > 0 ? "An image" : "Untitled";
  return characters.length > LONGEST_TITLE ? `${characters.slice(0, LONGEST_TITLE - 1).join("")}…` : words;
}
