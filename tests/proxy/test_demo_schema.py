"""What the demo model says where a JSON Schema says how."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import jsonschema
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.demo_pattern import MAX_LENGTH, Unreadable, matching
from proxy.dialects.demo_schema import instance

Schema = dict[str, Any]


class Step(pydantic.BaseModel):
    explanation: str
    output: str = pydantic.Field(min_length=30)


class Answer(pydantic.BaseModel):
    steps: list[Step]
    final: Step | None
    score: float = pydantic.Field(gt=0, lt=1)
    parent: Answer | None


def object_of(**properties: object) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS: dict[str, Any] = {
    "anything": True,
    "an empty one": {},
    "const": {"const": {"a": [1]}},
    "enum": {"type": "string", "enum": ["b", "a"]},
    "several types": {"type": ["null", "integer"]},
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "bounds": object_of(
        least={"type": "integer", "minimum": 5},
        most={"type": "integer", "maximum": -3},
        above={"type": "integer", "exclusiveMinimum": 7},
        below={"type": "number", "exclusiveMaximum": -0.5},
        between={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        multiple={"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 20},
    ),
    "lengths": object_of(
        long={"type": "string", "minLength": 12},
        short={"type": "string", "maxLength": 2},
        none={"maxLength": 0},
    ),
    "formats": object_of(
        **{
            name: {"type": "string", "format": name}
            for name in ("date-time", "email", "uuid", "ipv4", "date")
        }
    ),
    "a pattern": object_of(code={"type": "string", "pattern": "^[A-Z]{3}-\\d{4}$"}),
    "arrays": object_of(
        some={"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        none={"type": "array", "items": {"type": "string"}, "maxItems": 0},
        pair={"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        words={"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
        chosen={"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "uniqueItems": True},
    ),
    "nested": object_of(a=object_of(b=object_of(c=object_of(d={"type": "array", "items": object_of(e={})})))),
    "what may be left out": {"type": "object", "properties": {"a": {"type": "string"}}, "minProperties": 1},
    "anyOf": object_of(a={"anyOf": [{"type": "null"}, {"type": "integer"}]}),
    "oneOf": object_of(a={"oneOf": [object_of(kind={"const": "x"}), object_of(kind={"const": "y"})]}),
    "allOf": {
        "allOf": [object_of(a={"type": "integer"}) | {"additionalProperties": True}, {"required": ["a"]}]
    },
    "a reference": {"$ref": "#/$defs/A~1b", "$defs": {"A/b": object_of(x={"type": "integer"})}},
    "a reference to itself": object_of(
        child={"anyOf": [{"$ref": "#"}, {"type": "null"}]}, name={"type": "string"}
    ),
    "a list of itself": object_of(children={"type": "array", "items": {"$ref": "#"}}),
    "a default": object_of(a={"type": "integer", "default": 42}),
    "a model": Answer.model_json_schema(),
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_it_says_what_the_schema_allows(schema: Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    made = json.loads(json.dumps(instance(schema)))
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(made)
    assert instance(schema) == made


def test_it_satisfies_a_model() -> None:
    answer = Answer.model_validate(instance(Answer.model_json_schema()))
    assert len(answer.steps) == 1


_NUMBERS = st.integers(-50, 50)
_LEAVES = st.one_of(
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        _NUMBERS,
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + more},
        _NUMBERS,
        st.integers(1, 9),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 40),
        st.integers(0, 9),
    ),
    st.builds(
        lambda values: {"enum": values}, st.lists(st.one_of(st.text(), _NUMBERS, st.none()), min_size=1)
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, {"type": ["string", "null"]}]),
)
_SCHEMAS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda names: object_of(**names), st.dictionaries(st.text(), inner, max_size=4)),
        st.builds(
            lambda items, n: {"type": "array", "items": items, "minItems": n}, inner, st.integers(0, 3)
        ),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=12,
)


@given(_SCHEMAS)
def test_it_says_what_any_schema_allows(schema: Schema) -> None:
    jsonschema.Draft202012Validator(schema).validate(instance(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        object_of(a={"$ref": "#"}, b={"$ref": "#"}, c={"$ref": "#"}),
        {
            "type": "array",
            "minItems": 10**9,
            "items": {"type": "array", "minItems": 10**9, "items": {"$ref": "#"}},
        },
        {"type": "string", "minLength": 10**12},
        {"properties": {"a": {}}, "required": [], "minProperties": 10**30},
        {"type": "array", "minItems": 100, "items": {"const": "x" * 100_000}},
        {"type": "array", "minItems": 100, "items": object_of(**{"x" * 100_000: {}})},
        {"allOf": [{"$ref": "#"}] * 1000},
        {"anyOf": [{"$ref": "#"}] * 1000},
        object_of(**{f"a{number}": {} for number in range(100_000)}),
        {"type": "number", "minimum": 1e308, "multipleOf": 1e-308},
        {"type": "string", "pattern": "(a{999}){999}"},
        {"properties": [], "required": {}, "enum": [], "anyOf": {}, "type": 7},
        7,
        None,
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_it_ends_whatever_the_schema_is(schema: object) -> None:
    began = time.process_time()
    assert len(json.dumps(instance(schema))) < 1_000_000
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{3}-\d{2}-\d{4}$",
        r"^[A-Z]{2,4}[0-9]+$",
        r"^(?:foo|bar)(baz)?$",
        r"^(?P<year>[0-9]{4})-(?<month>0[1-9]|1[0-2])$".replace("?<month>", "?P<month>"),
        r"^[^a0A\-]+\.[a-z]{2,}$",
        r"\w+@\w+\.com",
        r"^#(?:[0-9a-fA-F]{3}){1,2}$",
        r"^\+?[1-9]\d{1,14}$",
        r"^$",
        r"a.c*?",
        r"^\[\{\}\]\t\\$",
    ],
)
def test_it_writes_what_a_pattern_matches(pattern: str) -> None:
    assert re.search(pattern, matching(pattern))


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)b", r"(a)\1", "[", "(", ")", "a{", "a{2", "*", r"\p{L}", "[z-", "a{99999}", "(" * 99, "[]"],
)
def test_it_reads_no_more_than_it_understands(pattern: str) -> None:
    with pytest.raises(Unreadable):
        matching(pattern)


@given(st.text(alphabet="ab01[](){}|*+?^$\\d-.,", max_size=40))
def test_whatever_the_pattern_it_ends(pattern: str) -> None:
    try:
        assert len(matching(pattern)) <= MAX_LENGTH
    except Unreadable:
        assert pattern
