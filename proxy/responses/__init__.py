"""The Responses API's language: its items and fields, and the way to Chat Completions and back. Pure."""
