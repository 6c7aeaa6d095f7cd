"""Which items have a word: what a search asks, kept by PostgreSQL itself as items come and go.

Row security lets no index on a text be used, since the operators of full text search are not leakproof
(PostgreSQL manual, "Rules and Privileges"): a search would read every item of the tenant. So the words are
kept apart, each as 64 bits of a hash over the tenant's id and the word, in a table that tenants have no right
to. `threads_items_with` looks there on behalf of the tenant whose scope it is called in, and of no other.
Nothing of this is there on SQLite.
"""

from __future__ import annotations

from accounts.tenancy import PostgresOperation

_WORDS = """
CREATE FUNCTION threads_words(tenant text, content text) RETURNS bigint[] LANGUAGE sql STABLE AS $$
    SELECT COALESCE(array_agg(
        ('x' || encode(substr(sha256(convert_to(tenant || word, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
    ), '{}')
    FROM unnest(tsvector_to_array(to_tsvector('simple', content))) AS word
$$"""

# As the owner of the table, whoever inserts or deletes the items.
_ADD = """
CREATE FUNCTION threads_words_add() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO threads_itemwords
        SELECT id, threads_words(tenant_id::text, text) FROM added WHERE text <> '';
    RETURN NULL;
END $$"""
_REMOVE = """
CREATE FUNCTION threads_words_remove() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM threads_itemwords USING removed WHERE item_id = removed.id;
    RETURN NULL;
END $$"""

_FIND = """
CREATE FUNCTION threads_items_with(content text) RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT AS $$
    SELECT item_id FROM threads_itemwords
    WHERE words @> threads_words(current_setting('tollgate.tenant', true), content)
    AND threads_words(current_setting('tollgate.tenant', true), content) <> '{}'
$$"""


def _trigger(verb: str, event: str, rows: str) -> str:
    past = {"add": "added", "remove": "removed"}[verb]
    return (
        f"CREATE TRIGGER words_{verb} AFTER {event} ON threads_item REFERENCING {rows} TABLE AS {past}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION threads_words_{verb}()"
    )


class KeepWords(PostgresOperation):
    """The table of words, and what keeps it."""

    def forwards(self) -> list[str]:
        return [
            "CREATE TABLE threads_itemwords (item_id uuid PRIMARY KEY, words bigint[] NOT NULL)",
            "CREATE INDEX threads_itemwords_words ON threads_itemwords USING gin (words)",
            *(_WORDS, _ADD, _REMOVE, _FIND),
            *(_trigger("add", "INSERT", "NEW"), _trigger("remove", "DELETE", "OLD")),
        ]

    def backwards(self) -> list[str]:
        return [
            "DROP TRIGGER words_remove ON threads_item",
            "DROP TRIGGER words_add ON threads_item",
            "DROP FUNCTION threads_items_with(text)",
            "DROP FUNCTION threads_words_remove()",
            "DROP FUNCTION threads_words_add()",
            "DROP FUNCTION threads_words(text, text)",
            "DROP TABLE threads_itemwords",
        ]

    def describe(self) -> str:
        return "Keep the words of items for searches"
