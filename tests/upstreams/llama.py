"""A real llama.cpp server with a tiny model, as an upstream that somebody else wrote.

    python -m tests.upstreams.llama --port 9001 [--embeddings]

memo.gguf is a Llama of 0.7 million parameters, fitted to a few dialogues so that its answers can be
asserted: "Say hello in exactly 3 words." → "Hello to you"; "Count from 1 to 5." → "1, 2, 3, 4, 5".
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import xllamacpp

MODEL = Path(__file__).with_name("memo.gguf")
CONTEXT_TOKENS = 16_384


def serve(port: int, *, embeddings: bool) -> xllamacpp.Server:
    """A server on 127.0.0.1, for chat or for embeddings; it has its own threads and ends with its object."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(MODEL)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 2
    parameters.warmup = False
    parameters.use_jinja = True
    parameters.n_gpu_layers = 0
    parameters.cpuparams.n_threads = 1
    if embeddings:
        parameters.embedding = True
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description="A real llama.cpp server with a tiny model.")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--embeddings", action="store_true", help="answer /v1/embeddings instead of chat")
    given = parser.parse_args()
    server = serve(given.port, embeddings=given.embeddings)
    print(f"OPENAI_BASE_URL={server.listening_address}/v1", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
