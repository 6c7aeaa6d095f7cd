// What the played model says, by the words in what it is asked:
//
//   boom      fails                          think     reasons first, in two thoughts
//   tool      calls `weather`, which the server runs, and answers in a second step
//   ask       calls `ask`, which nobody runs here
//   prompt    says, as JSON, the prompt that the SDK made of the request
//   long      ends for its length            otherwise it repeats what it was told

export const USAGE = { input: 3, output: 5 };

export function lastText(prompt) {
  const { content } = prompt.at(-1);
  if (typeof content === "string") return content;
  return content.filter((part) => part.type === "text").map((part) => part.text).join(" ");
}

// The steps of an answer, as the model tells them: [kind, value] each.
export function steps(prompt) {
  if (prompt.at(-1).role === "tool") return [["text", ["The tool ", "said: "]], ["text", [results(prompt)]], ["end", "stop"]];
  const text = lastText(prompt);
  if (text.includes("boom")) return [["text", ["Half "]], ["error", new Error("boom")]];
  if (text.includes("tool")) return [["text", ["Let me see."]], ["call", ["weather", { city: "Rome" }]], ["end", "tool-calls"]];
  if (text.includes("ask")) return [["call", ["ask", { question: "Why?" }]], ["end", "tool-calls"]];
  if (text.includes("prompt")) return [["text", [JSON.stringify(prompt, plain)]], ["end", "stop"]];
  const thoughts = text.includes("think") ? [["thought", ["First ", "this."]], ["thought", ["Then that."]]] : [];
  const words = `You said: ${text}`.split(/(?<= )/);
  return [...thoughts, ["text", words], ["end", text.includes("long") ? "length" : "stop"]];
}

function results(prompt) {
  return prompt.at(-1).content.map((part) => JSON.stringify(part.result ?? part.output.value)).join();
}

function plain(key, value) {
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return value?.type === "Buffer" ? `${value.data.length} bytes` : value;
}
