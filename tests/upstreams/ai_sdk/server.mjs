// A chat application made with the AI SDK, its model played: what the SDK makes of a request, and how it streams.
//
//   node server.mjs MAJOR PORT       (MAJOR: 4 or 7; after `npm ci` here)
//
// POST /api/chat answers. What the last message says decides how: see model.mjs.

import http from "node:http";

const [major, port] = process.argv.slice(2);
const { answer } = await import(`./ai${major}.mjs`);

function read(request) {
  return new Promise((resolve) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => resolve(Buffer.concat(pieces).toString()));
  });
}

const server = http.createServer(async (request, response) => {
  if (request.method !== "POST") return response.end("up");
  try {
    const body = JSON.parse(await read(request));
    if (body.modelId === "missing") return response.writeHead(404).end("Model not found");
    await answer(body, response);
  } catch (error) {
    if (!response.headersSent) response.writeHead(500);
    response.end(String(error));
  }
});

server.listen(Number(port), "127.0.0.1");
