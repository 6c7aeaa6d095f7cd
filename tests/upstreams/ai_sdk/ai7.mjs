// AI SDK 7: the UI message stream, server-sent events. Usage goes along as the metadata of the message.

import { convertToModelMessages, isStepCount, pipeUIMessageStreamToResponse, simulateReadableStream, streamText, tool, toUIMessageStream } from "ai7";
import { MockLanguageModelV4 } from "ai7/test";
import { z } from "zod";
import { USAGE, steps } from "./model.mjs";

const usage = {
  inputTokens: { total: USAGE.input, noCache: USAGE.input, cacheRead: 0, cacheWrite: undefined },
  outputTokens: { total: USAGE.output, text: USAGE.output, reasoning: 0 },
};

function block(type, number, deltas) {
  const id = `${type}-${number}`;
  return [{ type: `${type}-start`, id }, ...deltas.map((delta) => ({ type: `${type}-delta`, id, delta })), { type: `${type}-end`, id }];
}

function parts([kind, value], number) {
  switch (kind) {
    case "text":
      return block("text", number, value);
    case "thought":
      return block("reasoning", number, value);
    case "call":
      return [{ type: "tool-call", toolCallId: "call_1", toolName: value[0], input: JSON.stringify(value[1]) }];
    case "error":
      return [{ type: "error", error: value }];
    default:
      return [{ type: "finish", finishReason: { unified: value, raw: value }, usage }];
  }
}

const model = new MockLanguageModelV4({
  supportedUrls: { "*/*": [/.*/] },
  doStream: async ({ prompt }) => ({
    stream: simulateReadableStream({
      chunks: [{ type: "stream-start", warnings: [] }, ...steps(prompt).flatMap(parts)],
      initialDelayInMs: null,
      chunkDelayInMs: null,
    }),
  }),
});

const tools = {
  weather: tool({ inputSchema: z.object({ city: z.string() }), execute: async () => ({ celsius: 21 }) }),
  ask: tool({ inputSchema: z.object({ question: z.string() }) }),
};

export async function answer({ messages }, response) {
  const result = streamText({
    model,
    messages: await convertToModelMessages(messages, { tools }),
    tools,
    stopWhen: isStepCount(3),
    onError() {},
  });
  const stream = toUIMessageStream({
    stream: result.stream,
    sendSources: true,
    messageMetadata: ({ part }) => (part.type === "finish" ? { totalUsage: part.totalUsage } : undefined),
  });
  await pipeUIMessageStreamToResponse({ response, stream });
}
