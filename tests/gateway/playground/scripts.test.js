// The playground's modules that need no browser. tests/gateway/test_playground_scripts.py runs this beside a copy of
// them, with `ready.json`: what a shell, a Python and a Node shall say of the code that people copy.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Api, Key, Refusal } from "./api.js";
import { Answer } from "./answer.js";
import { Conversations, Record } from "./conversations.js";
import { preferred } from "./models.js";
import { itemsOf, systemItem, titleOf, turnsOf } from "./items.js";
import { chatBody, chatHeaders } from "./request.js";
import { EventReader } from "./sse.js";
import { countdown, ending, figures, seconds, trouble } from "./wording.js";

const SETTINGS = { model: "m", system: "", temperature: null, effort: "", showsReasoning: true };
const user = (text, images = []) => ({ role: "user", text, images });
const said = (text, reasoning = "") => ({ role: "assistant", text, reasoning, images: [], stopped: false });

// Streams

const TRANSCRIPTS = [
  ["data: a\n\ndata: b\n\n", ["a", "b"]],
  ["data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]],
  ["data: a\r\rdata: b\r\r", ["a", "b"]],
  [": keep-alive\n\nevent: x\nid: 1\ndata: a\ndata:  b\n\n", ["a\n b"]],
  ["data:a\u2028b\u0085c\n\ndata\n\nretry: 3\n\n", ["a\u2028b\u0085c", ""]],
  ["data: 日本 🎉\n\ndata: cut", ["日本 🎉"]],
];

test("it reads events in every split", () => {
  for (const [text, events] of TRANSCRIPTS) {
    for (let first = 0; first <= text.length; first += 1) {
      for (let second = first; second <= text.length; second += 1) {
        const reader = new EventReader();
        const pieces = [text.slice(0, first), text.slice(first, second), text.slice(second)];
        assert.deepEqual(pieces.flatMap((piece) => reader.feed(piece)), events);
      }
    }
  }
});

function answered(...documents) {
  const answer = new Answer();
  for (const document of documents) answer.take(typeof document === "string" ? document : JSON.stringify(document));
  answer.close();
  return answer;
}

const delta = (delta, finish_reason = null) => ({ choices: [{ index: 0, delta, finish_reason }], usage: null });
const USAGE = { prompt_tokens: 3, completion_tokens: 1_234, completion_tokens_details: { reasoning_tokens: 7 } };

test("it makes one answer of the chunks", () => {
  const whole = answered(
    delta({ role: "assistant", content: null, reasoning_content: "Hm. " }),
    delta({ reasoning: "So." }),
    delta({ content: "Hel" }),
    delta({ content: "lo" }, "stop"),
    { choices: [], usage: USAGE },
    "[DONE]",
    delta({ content: "after the end" }),
  );
  assert.deepEqual([whole.text, whole.reasoning, whole.finish, whole.usage], ["Hello", "Hm. So.", "stop", USAGE]);
  assert.equal(whole.error, null);
});

test("it tells how an answer went wrong, and keeps what there was", () => {
  const failed = answered(delta({ content: "Hel" }), { error: { message: "No.", code: "upstream_error", type: "x" } });
  assert.deepEqual([failed.text, failed.error], ["Hel", { code: "upstream_error", message: "No.", midway: true }]);
  assert.equal(answered(delta({ content: "Hel" })).error.code, "cut");
  for (const broken of ["{", "[]", "3", "null", ""]) assert.equal(answered(broken, "[DONE]").error.code, "unreadable");
  assert.deepEqual(answered({ error: "words" }).error, { code: "", message: "words", midway: true });
});

test("it bears chunks of any shape", () => {
  const odd = [{}, { choices: 3 }, { choices: [null] }, { choices: [{ delta: [] }] }, delta({ content: [1], reasoning: {} })];
  const answer = answered(...odd, "[DONE]");
  assert.deepEqual([answer.text, answer.reasoning, answer.error], ["", "", null]);
});

// Calls

test("it asks for what is set, and for nothing else", () => {
  assert.deepEqual(chatBody(SETTINGS, [user("Hi")]), {
    model: "m",
    messages: [{ role: "user", content: "Hi" }],
    stream: true,
    stream_options: { include_usage: true },
  });
  const settings = { model: "m", system: "Be brief.", temperature: 0, effort: "low", showsReasoning: false };
  const body = chatBody(settings, [user("", ["data:image/png;base64,AA"]), said(""), said("Nice.", "Hm."), user("Why?")]);
  assert.deepEqual(body.messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AA" } }] },
    { role: "assistant", content: "Nice." },
    { role: "user", content: "Why?" },
  ]);
  assert.deepEqual([body.temperature, body.reasoning_effort], [0, "low"]);
  assert.deepEqual([chatHeaders(SETTINGS), chatHeaders(settings)], [{}, { "X-Show-Reasoning": "false" }]);
});

function reply(status, document, headers = {}) {
  return new Response(JSON.stringify(document), { status, headers: { "content-type": "application/json", ...headers } });
}

// A server that answers what it is told to, in turn; `calls` are the requests that it got.
function server(...answers) {
  const calls = [];
  const fetch = async (path, options = {}) => {
    calls.push({ path, ...options, secret: options.headers?.Authorization?.slice("Bearer ".length) });
    const next = answers.length > 1 ? answers.shift() : answers[0];
    if (next instanceof Error) throw next;
    return next.clone();
  };
  return { fetch, calls };
}

const PAGE = { tenant: "ac/me", csrf_token: "token" };
const made = (secret) => reply(200, { secret, lasts_seconds: 900 });

test("it makes the key anew before it ends, once for all who ask", async () => {
  let now = 0;
  const { fetch, calls } = server(made("first"), made("second"));
  const key = new Key(PAGE, { fetch, now: () => now });
  assert.deepEqual(await Promise.all([key.secret(), key.secret()]), ["first", "first"]);
  now = 839_000;
  assert.equal(await key.secret(), "first");
  now = 841_000;
  assert.equal(await key.secret(), "second");
  assert.equal(calls.length, 2);
  assert.equal(calls[0].path, "/playground/key/?tenant=ac%2Fme");
  assert.deepEqual([calls[0].method, calls[0].headers["X-CSRFToken"]], ["POST", "token"]);
});

test("it calls once more with a new key where the old one is refused", async () => {
  const keys = server(made("first"), made("second"));
  const refused = reply(401, { error: { message: "no", code: "invalid_api_key" } });
  const { fetch, calls } = server(refused, reply(200, { data: [1] }));
  const api = new Api(new Key(PAGE, { fetch: keys.fetch, now: () => 0 }), { fetch });
  assert.deepEqual(await api.json("/models"), { data: [1] });
  assert.deepEqual(calls.map((call) => call.secret), ["first", "second"]);
  const never = server(refused);
  const shut = new Api(new Key(PAGE, { fetch: keys.fetch, now: () => 0 }), { fetch: never.fetch });
  await assert.rejects(shut.json("/models"), { code: "invalid_api_key", status: 401 });
  assert.equal(never.calls.length, 2);
});

test("it says in a code what kept it from calling", async () => {
  const cases = [
    [new TypeError("fetch failed"), { code: "network" }],
    [reply(401, { error: {} }), { code: "signed_out" }],
    [new Response("<html>", { status: 403, headers: { "content-type": "text/html" } }), { code: "signed_out" }],
    [reply(403, { error: { message: "Your role.", code: null, type: "permission_error" } }), { message: "Your role." }],
  ];
  for (const [answer, expected] of cases) {
    const key = new Key(PAGE, { fetch: server(answer).fetch, now: () => 0 });
    await assert.rejects(key.secret(), (error) => error instanceof Refusal && Object.keys(expected).every((name) => error[name] === expected[name]));
  }
  const limited = reply(429, { error: { message: "Slow.", code: "rate_limit_exceeded" } }, { "retry-after": "7" });
  const api = new Api({ secret: async () => "s" }, { fetch: server(limited).fetch });
  await assert.rejects(api.json("/models"), { code: "rate_limit_exceeded", retryAfterSeconds: 7, status: 429 });
});

test("it streams events, and tells a lost network from being stopped", async () => {
  const pieces = ["data: 日", "本\n", "\ndata: [DONE]\n\n"].map((piece) => new TextEncoder().encode(piece));
  const body = (ending) =>
    new ReadableStream({
      pull(controller) {
        const piece = pieces[controller.given ?? 0];
        controller.given = (controller.given ?? 0) + 1;
        if (piece) controller.enqueue(piece);
        else if (ending) controller.error(ending);
        else controller.close();
      },
    });
  const read = async (ending) => {
    const api = new Api({ secret: async () => "s" }, { fetch: async () => new Response(body(ending)) });
    const events = [];
    for await (const event of api.stream("/chat/completions", { body: {} })) events.push(event);
    return events;
  };
  assert.deepEqual(await read(null), ["日本", "[DONE]"]);
  await assert.rejects(read(new TypeError("terminated")), { code: "network" });
  await assert.rejects(read(new DOMException("stopped", "AbortError")), { name: "AbortError" });
});

// What is kept

test("it keeps turns as items, and finds them again", () => {
  const turns = [user("Look", ["data:image/png;base64,AA"]), said("A cat.", "Fur."), user("Sure?"), { ...said("Y"), stopped: true }];
  const items = turns.flatMap(itemsOf).map((item, place) => ({ ...item, id: `i${place}` }));
  const again = turnsOf([{ ...systemItem("Old."), id: "s" }, ...items, { ...systemItem("New."), id: "t" }]);
  assert.equal(again.system, "New.");
  assert.deepEqual(again.turns.map((turn) => turn.ids), [["i0"], ["i1", "i2"], ["i3"], ["i4"]]);
  const plain = again.turns.map(({ role, text, images, reasoning, stopped }) => ({ role, text, images, reasoning, stopped }));
  assert.deepEqual(plain, turns.map((turn) => ({ reasoning: "", stopped: false, ...turn })));
});

test("it loads no image from elsewhere, and shows that there was something else", () => {
  const content = [{ type: "input_text", text: "Look" }, { type: "input_image", image_url: "https://spy.test/x.png" }];
  const { turns } = turnsOf([
    { type: "message", role: "user", content, id: "a" },
    { type: "function_call", name: "f", arguments: "{}", id: "b" },
    { type: "message", role: "assistant", content: "plain", id: "c" },
  ]);
  assert.deepEqual(turns.map((turn) => [turn.role, turn.text]), [["user", "Look"], ["other", "function_call"], ["assistant", "plain"]]);
  assert.deepEqual(turns[0].images, []);
});

test("it calls a chat by its first words", () => {
  assert.equal(titleOf(user("  What\n is\tthis?  ")), "What is this?");
  assert.equal(titleOf(user("", ["data:"])), "An image");
  assert.equal(titleOf(user("")), "Untitled");
  assert.equal(titleOf(user("🎉".repeat(61))), `${"🎉".repeat(59)}…`);
});

test("it writes turns down one after the other, and later what could not be", async () => {
  const calls = [];
  const items = [];
  let failures = 1;
  const api = {
    async json(path, { method = "GET", body } = {}) {
      calls.push(`${method} ${path}`);
      if (body?.items?.[0].content[0].text === "bad" && failures-- > 0) throw new Refusal({ code: "network" });
      const added = (body?.items ?? []).map((item, place) => ({ ...item, id: `i${items.length + place}` }));
      items.push(...added);
      return path === "/conversations" ? { id: "conv_1" } : { data: added };
    },
  };
  const created = [];
  const record = new Record(api, { created: (...told) => created.push(told) });
  const [first, answer, bad, last] = [user("Hi"), said("Hello.", "Hm."), user("bad"), user("Bye")];
  await Promise.all([record.add(first, "Be kind."), record.add(answer, "Be kind.")]);
  await assert.rejects(record.add(bad, "Be kind."), { code: "network" });
  await record.add(last, "Be kind.");
  assert.deepEqual(created, [["conv_1", "Hi"]]);
  assert.deepEqual([first.ids, answer.ids, last.ids], [["i1"], ["i2", "i3"], ["i5"]]);
  assert.deepEqual(items.map((item) => item.role ?? item.type), ["system", "user", "reasoning", "assistant", "user", "user"]);
  await record.take([answer, last]);
  assert.deepEqual(calls.slice(-3), ["i2", "i3", "i5"].map((id) => `DELETE /conversations/conv_1/items/${id}`));
});

test("it lists the chats of who is signed in, in parts", async () => {
  const asked = [];
  const api = {
    async session(path) {
      asked.push(path);
      const results = [{ conversation_id: "conv_1", title: "", metadata: { title: "Mine" } }, { conversation_id: "conv_2", title: "Branch", metadata: {} }];
      return { results, next: asked.length === 1 ? "http://elsewhere.test/api/threads/?after=1" : null };
    },
  };
  const conversations = new Conversations(api, "acme");
  const first = await conversations.list();
  assert.deepEqual(first.conversations.map((row) => row.title), ["Mine", "Branch"]);
  assert.equal((await conversations.list(first.next)).next, null);
  assert.deepEqual(asked, ["/api/threads/?tenant=acme&mine=true&conversation=true&limit=30", "/api/threads/?after=1"]);
});

// Words

test("it says what went wrong, and whether to try again", () => {
  const limited = trouble({ code: "rate_limit_exceeded", status: 429, message: "1 a minute.", retryAfterSeconds: 6.2 });
  assert.deepEqual(limited, { title: "Too many requests", text: "1 a minute.", waitSeconds: 7, mayRetry: true });
  const spent = trouble({ code: "insufficient_quota", status: 429, message: "The budget is spent." });
  assert.deepEqual([spent.title, spent.mayRetry, spent.waitSeconds], ["The budget is spent", false, 0]);
  assert.equal(trouble({ code: "an_upstreams_own", status: 429 }).title, "Too many requests");
  assert.equal(trouble({ code: "an_upstreams_own", midway: true }).title, "The answer broke off");
  assert.equal(trouble({ code: "", status: 500, message: "Oh." }).text, "Oh.");
  assert.match(trouble({ code: "network" }).text, /connection/);
  assert.deepEqual([countdown(5), countdown(0), countdown(3600)].map((words) => words.slice(-9)), ["in in 5 s.", "gain now.", " minutes."].map((w) => w.slice(-9)));
});

test("it says how an answer ended, where that is odd", () => {
  const whole = { text: "x", finish: "stop", stopped: false, error: null };
  assert.equal(ending(whole), "");
  assert.equal(ending({ ...whole, stopped: true }), "Stopped");
  assert.match(ending({ ...whole, finish: "length" }), /length/);
  assert.match(ending({ ...whole, finish: "content_filter" }), /filter/);
  assert.match(ending({ ...whole, text: "" }), /nothing/);
  assert.equal(ending({ ...whole, text: "", error: {} }), "");
});

test("it begins with a model that talks", () => {
  const names = ["babbage-002", "demo", "gpt-4o", "gpt-5", "text-embedding-3-small", "whisper-1"];
  assert.equal(preferred(names), "gpt-4o");
  assert.equal(preferred(names, { operators: "gpt-5" }), "gpt-5");
  assert.equal(preferred(names, { operators: "gpt-5", last: "demo" }), "demo");
  assert.equal(preferred(names, { operators: "gone", last: "gone too" }), "gpt-4o");
  assert.deepEqual([preferred(["demo"]), preferred(["whisper-1"]), preferred([])], ["demo", "whisper-1", null]);
});

test("it says what an answer took", () => {
  const told = figures({ usage: USAGE, firstMilliseconds: 250, totalMilliseconds: 12_400 });
  assert.equal(told, "3 tokens in · 1,234 out, 7 of them reasoning · 12 s · first word after 0.3 s");
  assert.equal(figures({ usage: null, firstMilliseconds: null, totalMilliseconds: 90_000 }), "1 min 30 s");
  assert.match(figures({ usage: { ...USAGE, estimated: true }, firstMilliseconds: null, totalMilliseconds: 1 }), /estimated/);
  assert.equal(seconds(125_000), "2 min 5 s");
});
