// AI SDK 4: the data stream, `CODE:JSON` lines.

import { simulateReadableStream, streamText, tool } from "ai4";
import { MockLanguageModelV1 } from "ai4/test";
import { z } from "zod";
import { USAGE, steps } from "./model.mjs";

const usage = { promptTokens: USAGE.input, completionTokens: USAGE.output };

function parts([kind, value]) {
  switch (kind) {
    case "text":
      return value.map((textDelta) => ({ type: "text-delta", textDelta }));
    case "thought":
      return value.map((textDelta) => ({ type: "reasoning", textDelta }));
    case "call":
      return [{ type: "tool-call", toolCallType: "function", toolCallId: "call_1", toolName: value[0], args: JSON.stringify(value[1]) }];
    case "error":
      return [{ type: "error", error: value }];
    default:
      return [{ type: "finish", finishReason: value, usage }];
  }
}

const model = new MockLanguageModelV1({
  supportsImageUrls: true,
  doStream: async ({ prompt }) => ({
    stream: simulateReadableStream({ chunks: steps(prompt).flatMap(parts), initialDelayInMs: null, chunkDelayInMs: null }),
    rawCall: { rawPrompt: null, rawSettings: {} },
  }),
});

const tools = {
  weather: tool({ parameters: z.object({ city: z.string() }), execute: async () => ({ celsius: 21 }) }),
  ask: tool({ parameters: z.object({ question: z.string() }) }),
};

export async function answer({ messages }, response) {
  streamText({ model, messages, tools, maxSteps: 3, onError() {} }).pipeDataStreamToResponse(response, { sendReasoning: true });
}
