// A call as code that makes it again, in three languages, with the key taken from the environment. Pure.

export const KEY_VARIABLE = "TOLLGATE_API_KEY";

// Characters that terminals and editors act on, or that make text look like other text; JSON leaves them be.
const DECEPTIVE = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

export function curl({ baseUrl, body, headers }) {
  const given = Object.entries(headers).map(([name, value]) => `  -H ${quoted(`${name}: ${value}`)} \\\n`);
  return (
    `curl -N ${quoted(`${baseUrl}/chat/completions`)} \\\n` +
    `  -H "Authorization: Bearer $${KEY_VARIABLE}" \\\n` +
    `  -H 'Content-Type: application/json' \\\n` +
    given.join("") +
    `  --data-binary @- <<'JSON'\n${json(body)}\nJSON\n`
  );
}

export function python({ baseUrl, body, headers }) {
  return `import os

from openai import OpenAI  # pip install openai

client = OpenAI(base_url=${json(baseUrl)}, api_key=os.environ["${KEY_VARIABLE}"])
stream = client.chat.completions.create(
${members(body, headers, "extra_headers")
  .map(([name, value]) => `    ${name}=${pythonLiteral(value, 4)},\n`)
  .join("")})
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`;
}

export function node({ baseUrl, body, headers }) {
  const options = Object.keys(headers).length === 0 ? "" : `, { headers: ${json(headers)} }`;
  return `import OpenAI from "openai"; // npm install openai

const client = new OpenAI({ baseURL: ${json(baseUrl)}, apiKey: process.env.${KEY_VARIABLE} });
const stream = await client.chat.completions.create(${json(body)}${options});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
console.log();
`;
}

// One word of a POSIX shell, whatever is in it.
function quoted(word) {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function members(body, headers, name) {
  const given = Object.keys(headers).length === 0 ? [] : [[name, headers]];
  return [...Object.entries(body), ...given];
}

// JSON that is an expression of JavaScript too.
function json(value) {
  return plain(JSON.stringify(value, null, 2));
}

function plain(text) {
  return text.replace(DECEPTIVE, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// Strings of JSON are strings of Python.
function pythonLiteral(value, indent) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return plain(JSON.stringify(value));
  const isList = Array.isArray(value);
  const [opens, closes] = isList ? "[]" : "{}";
  const inner = " ".repeat(indent + 4);
  const entries = isList
    ? value.map((entry) => pythonLiteral(entry, indent + 4))
    : Object.entries(value).map(
        ([name, entry]) => `${plain(JSON.stringify(name))}: ${pythonLiteral(entry, indent + 4)}`,
      );
  if (entries.length === 0) return opens + closes;
  return `${opens}\n${entries.map((entry) => `${inner}${entry},\n`).join("")}${" ".repeat(indent)}${closes}`;
}
