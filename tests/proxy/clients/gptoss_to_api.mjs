// A client of gptossToapi, by fetch: the models, then a stream read as it comes.

const base = process.env.BASE_URL;
const models = await (await fetch(`${base}/v1/models`)).json();
console.log("models:", models.data.map((model) => model.id).filter((id) => id.startsWith("gpt-oss")).join(" "));

const response = await fetch(`${base}/v1/chat/completions`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ model: "gpt-oss-20b", messages: [{ role: "user", content: "Hi there" }], stream: true }),
});
let text = "";
const decoder = new TextDecoder();
for await (const piece of response.body) text += decoder.decode(piece, { stream: true });
const events = text.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
const said = events.slice(0, -1).map((event) => JSON.parse(event).choices[0]?.delta.content ?? "").join("");
console.log("said:", said, "last:", events.at(-1));
