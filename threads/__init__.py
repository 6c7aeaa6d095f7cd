"""Remembers: threads and their items, conversations, stored responses. Knows no upstream."""
