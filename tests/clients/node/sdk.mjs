// The official SDK for Node over all that a gateway remembers: `node sdk.mjs PART MODEL`, with OPENAI_BASE_URL and
// OPENAI_API_KEY. It ends with status 0 when all is as it should be.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const [part, model] = process.argv.slice(2);
const client = new OpenAI({ maxRetries: 0, timeout: 20_000 });
const hello = { role: "user", content: "Hello" };
const question = "What is the weather in Wien?";
const weather = {
  type: "function",
  name: "get_weather",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
};

async function all(pages) {
  const found = [];
  for await (const entry of await pages) found.push(entry);
  return found;
}

const notFound = (call) => assert.rejects(call, OpenAI.NotFoundError);
const output = (call) => ({ type: "function_call_output", call_id: call.call_id, output: "12 degrees" });

async function ended(id) {
  for (;;) {
    const response = await client.responses.retrieve(id);
    if (!["queued", "in_progress"].includes(response.status)) return response;
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

const parts = {
  async streams() {
    const whole = await client.responses.create({ model, input: "Hello" });
    const stream = client.responses.stream({ model, input: "Hello" });
    const events = [];
    for await (const event of stream) events.push(event);
    const final = await stream.finalResponse();
    assert.equal(events[0].type, "response.created");
    assert.equal(events.at(-1).type, "response.completed");
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    assert.equal(final.output_text, whole.output_text);
    assert.ok(whole.output_text);
  },

  async parses() {
    const shape = z.object({ city: z.string(), degrees: z.number().int() });
    const asked = { model, input: question, text: { format: zodTextFormat(shape, "weather") } };
    const parsed = (await client.responses.parse(asked)).output_parsed;
    assert.deepEqual(shape.parse(parsed), parsed);
    const streamed = (await client.responses.stream(asked).finalResponse()).output_parsed;
    assert.deepEqual(streamed, parsed);
  },

  async tools() {
    const asked = { model, input: question, tools: [weather] };
    const first = await client.responses.create(asked);
    const call = first.output.find((item) => item.type === "function_call");
    assert.equal(call.name, "get_weather");
    assert.equal(typeof JSON.parse(call.arguments).city, "string");
    const next = { model, tools: [weather], previous_response_id: first.id, input: [output(call)] };
    assert.ok((await client.responses.create(next)).output_text);

    const told = (await client.responses.stream(asked).finalResponse()).output.at(-1);
    assert.deepEqual([told.name, told.arguments], [call.name, call.arguments]);
    const input = [{ role: "user", content: question }, call, output(call)];
    assert.ok((await client.responses.create({ model, tools: [weather], input, store: false })).output_text);
  },

  async chains() {
    let previous;
    for (let turn = 0; turn < 20; turn += 1) {
      const response = await client.responses.create({
        model, input: `Turn ${turn}.`, previous_response_id: previous,
      });
      assert.equal(response.previous_response_id, previous ?? null);
      previous = response.id;
    }
    const items = await all(client.responses.inputItems.list(previous, { order: "asc", limit: 7 }));
    const said = items.filter((item) => item.role === "user").map((item) => item.content[0].text);
    assert.deepEqual(said, [...Array(20).keys()].map((turn) => `Turn ${turn}.`));
  },

  async looks() {
    const first = await client.responses.create({ model, input: "one", metadata: { topic: "demo" } });
    const made = await client.responses.create({ model, input: "two", previous_response_id: first.id });
    assert.deepEqual(await client.responses.retrieve(made.id), made);

    const events = await all(client.responses.retrieve(made.id, { stream: true }));
    assert.equal(events[0].type, "response.created");
    assert.equal(events.at(-1).type, "response.completed");
    const query = { stream: true, starting_after: events[3].sequence_number };
    assert.deepEqual(await all(client.responses.retrieve(made.id, query)), events.slice(4));

    const items = await all(client.responses.inputItems.list(made.id, { order: "asc", limit: 2 }));
    assert.deepEqual(items.map((item) => item.role), ["user", "assistant", "user"]);
    assert.deepEqual(items.map((item) => item.content[0].text), ["one", first.output_text, "two"]);

    await assert.rejects(client.responses.cancel(made.id), /Cannot cancel a synchronous response/);
    await client.responses.delete(made.id);
    await notFound(client.responses.retrieve(made.id));
    assert.equal((await client.responses.retrieve(first.id)).metadata.topic, "demo");
  },

  async background() {
    const queued = await client.responses.create({ model, input: "Hello", background: true });
    assert.equal(queued.status, "queued");
    const made = await ended(queued.id);
    assert.deepEqual([made.id, made.status, made.background], [queued.id, "completed", true]);
    assert.ok(made.output_text);
    assert.deepEqual((await client.responses.cancel(queued.id)).output, made.output);

    const stream = await client.responses.create({ model, input: "Hello", background: true, stream: true });
    const first = [];
    for await (const event of stream) if (first.push(event) === 3) break;
    const query = { stream: true, starting_after: first.at(-1).sequence_number };
    const rest = await all(client.responses.retrieve(first[0].response.id, query));
    assert.equal(rest[0].sequence_number, query.starting_after + 1);
    assert.equal(rest.at(-1).response.output[0].content[0].text, made.output_text);
  },

  async conversations() {
    const made = await client.conversations.create({ items: [hello], metadata: { topic: "demo" } });
    assert.deepEqual(await client.conversations.retrieve(made.id), made);
    const changed = await client.conversations.update(made.id, { metadata: { topic: "other" } });
    assert.deepEqual(changed.metadata, { topic: "other" });

    const call = { type: "function_call", call_id: "call_1", name: "look", arguments: "{}" };
    const added = await client.conversations.items.create(made.id, { items: [call, output(call)] });
    assert.deepEqual(added.data.map((item) => item.type), ["function_call", "function_call_output"]);
    const items = await all(client.conversations.items.list(made.id, { order: "asc", limit: 2 }));
    assert.deepEqual(items.slice(1), added.data);
    const place = { conversation_id: made.id };
    assert.deepEqual(await client.conversations.items.retrieve(items[0].id, place), items[0]);
    assert.deepEqual(await client.conversations.items.delete(items[0].id, place), changed);
    assert.equal((await all(client.conversations.items.list(made.id))).length, 2);

    const said = await client.responses.create({ model, input: "More?", conversation: made.id });
    const [answer, asked] = await all(client.conversations.items.list(made.id, { limit: 100 }));
    assert.deepEqual([asked.role, answer.role], ["user", "assistant"]);
    assert.equal(answer.id, said.output[0].id);

    assert.equal((await client.conversations.delete(made.id)).deleted, true);
    await notFound(client.conversations.retrieve(made.id));
  },

  async completions() {
    const metadata = { run: `${process.pid}-${Date.now()}` };
    const asked = { model, messages: [hello], store: true, metadata };
    const made = [];
    for (let number = 0; number < 3; number += 1) made.push(await client.chat.completions.create(asked));
    const ids = made.map((completion) => completion.id);
    const listed = await all(client.chat.completions.list({ metadata, model, limit: 2 }));
    assert.deepEqual(listed.map((completion) => completion.id), ids);

    const found = await client.chat.completions.retrieve(ids[0]);
    assert.deepEqual(found.choices, made[0].choices);
    const changed = await client.chat.completions.update(ids[0], { metadata: { run: "other" } });
    assert.deepEqual(changed.metadata, { run: "other" });
    const [message] = await all(client.chat.completions.messages.list(ids[0]));
    assert.deepEqual([message.role, message.content], ["user", "Hello"]);
    assert.equal((await client.chat.completions.delete(ids[0])).deleted, true);
    await notFound(client.chat.completions.retrieve(ids[0]));
  },
};

await parts[part]();
