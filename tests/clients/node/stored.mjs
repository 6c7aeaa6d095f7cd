// The official SDK for Node over everything that is stored. `node stored.mjs responses|conversations|completions`
// with OPENAI_BASE_URL and OPENAI_API_KEY; ends with status 0 when all is as it should be.

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0, timeout: 20_000 });
const model = "gpt-test";
const hello = { role: "user", content: "Hello" };

async function all(pages) {
  const found = [];
  for await (const entry of await pages) found.push(entry);
  return found;
}

const notFound = (call) => assert.rejects(call, OpenAI.NotFoundError);

const parts = {
  async responses() {
    const first = await client.responses.create({ model, input: "one", metadata: { topic: "demo" } });
    const made = await client.responses.create({ model, input: "two", previous_response_id: first.id });
    assert.deepEqual(await client.responses.retrieve(made.id), made);

    const events = [];
    for await (const event of await client.responses.retrieve(made.id, { stream: true })) events.push(event);
    assert.equal(events[0].type, "response.created");
    assert.equal(events.at(-1).type, "response.completed");
    const rest = [];
    const query = { stream: true, starting_after: events[3].sequence_number };
    for await (const event of await client.responses.retrieve(made.id, query)) rest.push(event);
    assert.deepEqual(rest, events.slice(4));

    const items = await all(client.responses.inputItems.list(made.id, { order: "asc", limit: 2 }));
    assert.deepEqual(items.map((item) => item.role), ["user", "assistant", "user"]);
    assert.deepEqual(items.map((item) => item.content[0].text), ["one", made.output_text, "two"]);

    await assert.rejects(client.responses.cancel(made.id), /Cannot cancel a synchronous response/);
    await client.responses.delete(made.id);
    await notFound(client.responses.retrieve(made.id));
    assert.equal((await client.responses.retrieve(first.id)).metadata.topic, "demo");
  },

  async conversations() {
    const made = await client.conversations.create({ items: [hello], metadata: { topic: "demo" } });
    assert.deepEqual(await client.conversations.retrieve(made.id), made);
    const changed = await client.conversations.update(made.id, { metadata: { topic: "other" } });
    assert.deepEqual(changed.metadata, { topic: "other" });

    const call = { type: "function_call", call_id: "call_1", name: "look", arguments: "{}" };
    const output = { type: "function_call_output", call_id: "call_1", output: "seen" };
    const added = await client.conversations.items.create(made.id, { items: [call, output] });
    assert.deepEqual(added.data.map((item) => item.type), ["function_call", "function_call_output"]);
    const items = await all(client.conversations.items.list(made.id, { order: "asc", limit: 2 }));
    assert.deepEqual(items.slice(1), added.data);
    const place = { conversation_id: made.id };
    assert.deepEqual(await client.conversations.items.retrieve(items[0].id, place), items[0]);
    assert.deepEqual(await client.conversations.items.delete(items[0].id, place), changed);
    assert.equal((await all(client.conversations.items.list(made.id))).length, 2);

    const said = await client.responses.create({ model, input: "More?", conversation: made.id });
    const [answer, question] = await all(client.conversations.items.list(made.id, { limit: 100 }));
    assert.deepEqual([question.role, answer.role], ["user", "assistant"]);
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

await parts[process.argv[2]]();
