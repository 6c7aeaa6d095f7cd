// A client of GPT-OSS 2T, by fetch: a stream unless told otherwise.

const url = `${process.env.BASE_URL}/api/gpt-oss-2t`;
const messages = [{ role: "user", content: "Hello" }];
const post = (body) =>
  fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

console.log("health:", (await (await fetch(url)).json()).status);

const response = await post({ messages });
const reader = response.body.getReader();
const decoder = new TextDecoder();
let buffer = "";
let said = "";
let done = false;
for (;;) {
  const { value, done: ended } = await reader.read();
  if (ended) break;
  buffer += decoder.decode(value, { stream: true });
  const lines = buffer.split("\n");
  buffer = lines.pop();
  for (const line of lines) {
    if (!line.startsWith("data: ")) continue;
    if (line === "data: [DONE]") done = true;
    else said += JSON.parse(line.slice(6)).choices[0]?.delta?.content || "";
  }
}
console.log("said:", said, "done:", done);

const whole = await (await post({ messages, stream: false, max_tokens: -1 })).json();
console.log("whole:", whole.choices[0].message.content);
const refused = await post({});
console.log("refused:", refused.status, (await refused.json()).error);
