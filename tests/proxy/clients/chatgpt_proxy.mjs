// A client of chatgpt-proxy, by fetch: its key in the body, the query and a form.

const base = process.env.BASE_URL;
const security_key = process.env.SECURITY_KEY;
const post = (path, body) =>
  fetch(base + path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ security_key, ...body }),
  });

const chat = await (await post("/openai", { model: "gpt-test", messages: [{ role: "user", content: "Hi" }] })).json();
console.log("openai:", chat.choices[0].message.content);

const made = await (await post("/openai2", { model: "gpt-test", input: "Hi" })).json();
console.log("openai2:", made.output_text);
const found = await (await fetch(`${base}/openai2/${made.id}?security_key=${security_key}`)).json();
console.log("found:", found.id === made.id);
const gone = await fetch(`${base}/openai2/${made.id}?security_key=${security_key}`, { method: "DELETE" });
console.log("deleted:", (await gone.json()).deleted);

const streamed = await (await post("/openai2", { model: "gpt-test", input: "Hi", stream: true })).text();
console.log("stream ends:", streamed.trimEnd().split("\n").at(-1));

const message = await (await post("/chatgpt", { prompt: "Hi" })).json();
console.log("chatgpt:", message.role, message.text);
const vectors = await (await post("/embeddings", { input: "Hi" })).json();
console.log("embeddings:", vectors.data.length);

const form = new FormData();
form.append("audio", new Blob(["RIFF"], { type: "audio/wav" }), "a.wav");
form.append("security_key", security_key);
const heard = await fetch(`${base}/openai/audio/transcriptions`, { method: "POST", body: form });
console.log("heard:", typeof (await heard.json()).text);

const refused = await post("/openai", { security_key: "wrong", model: "gpt-test", messages: [] });
console.log("refused:", refused.status, await refused.text());
