"""Reads the JSON that Java brokers write: keys may be bare numbers or whole objects.

An object becomes a dict whose keys are texts; a key that was an object becomes its compact text with sorted members.
"""

import json
import re

_SPACE = re.compile(r"\s*")
_BARE = re.compile(r"[^\s,:{}\[\]\"]+")
_STRING = json.JSONDecoder()


def parse(text):
    value, at = _value(text, 0)
    if text[at:].strip():
        raise ValueError(f"more after the value: {text[at:at + 20]!r}")
    return value


def compact(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _skip(text, at):
    return _SPACE.match(text, at).end()


def _value(text, at):
    at = _skip(text, at)
    if at >= len(text):
        raise ValueError("the text ends early")
    if text[at] == "{":
        return _object(text, at + 1)
    if text[at] == "[":
        return _array(text, at + 1)
    if text[at] == '"':
        return _STRING.raw_decode(text, at)
    bare = _BARE.match(text, at)
    if not bare:
        raise ValueError(f"no value at {text[at:at + 20]!r}")
    return json.loads(bare.group()), bare.end()


def _object(text, at):
    members = {}
    at = _skip(text, at)
    while text[at:at + 1] != "}":
        key, at = _value(text, at)
        at = _skip(text, at)
        if text[at:at + 1] != ":":
            raise ValueError(f"no colon at {text[at:at + 20]!r}")
        members[key if isinstance(key, str) else compact(key)], at = _value(text, at + 1)
        at = _after_item(text, at, "}")
    return members, at + 1


def _array(text, at):
    items = []
    at = _skip(text, at)
    while text[at:at + 1] != "]":
        item, at = _value(text, at)
        items.append(item)
        at = _after_item(text, at, "]")
    return items, at + 1


def _after_item(text, at, end):
    at = _skip(text, at)
    if text[at:at + 1] == ",":
        return _skip(text, at + 1)
    if text[at:at + 1] != end:
        raise ValueError(f"no end at {text[at:at + 20]!r}")
    return at
