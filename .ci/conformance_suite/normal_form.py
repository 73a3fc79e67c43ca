"""Answers without what may differ between two runs of one program: addresses, times, places in a log."""

import base64
import binascii
import re

from . import java_json, record

# Milliseconds from 2001 to 2286.
_TIME = re.compile(r"\b1[0-9]{12}\b")
# Of a message or of its sender, with an address of either family.
_ID = re.compile(r"\b([0-9A-F]{56}|[0-9A-F]{32})\b")
# What an answer of Java says before anybody has said anything.
_NO_REMARK = "not set any response code"
_HELP_LINK = re.compile(r"\s*(See https?://\S+( for further details\.?)?|For more information, please visit the url, \S+)")
_DURATION = re.compile(r"\b[0-9]+(\.[0-9]+)?( ?ms)\b")
# Members that count what each program does at its own pace.
_OWN_PACE = {"counter", "topicPutTps", "consumeTps"}


class NormalForm:
    def __init__(self, names):
        self.names = names

    def remark(self, remark):
        return None if remark == _NO_REMARK else self.text(remark)

    def text(self, text):
        if text is None:
            return None
        for address, name in self.names.items():
            text = re.sub("/?" + re.escape(address) + r"\b", name, text)
        text = _HELP_LINK.sub("", text)
        text = _ID.sub("<id>", text)
        text = _DURATION.sub(r"<n>\2", text)
        return _TIME.sub("<time>", text).strip(" ,.")

    def fields(self, fields):
        return {key: self._any_text(_decoded(value) if key == "recallHandle" else value) for key, value in fields.items()}

    def request(self, header, body):
        """A request of the server itself. Its properties are a map."""
        fields = dict(header.get("extFields") or {})
        properties = fields.pop("properties", None)
        shown = {"code": header["code"], "flag": header["flag"], "fields": self.fields(fields), "body": self.body(body)}
        if properties is not None:
            shown["properties"] = self.value(record.pairs(properties))
        return shown

    def _any_text(self, value):
        """Text that may hold JSON of its own, such as a data version."""
        if value.startswith("{"):
            try:
                return self.value(java_json.parse(value))
            except ValueError:
                pass
        return self.text(value)

    def body(self, body):
        if not body:
            return None
        if record.looks_like_records(body):
            return self.value(record.decode_all(body))
        text = body.decode("utf-8", "replace")
        try:
            return self.value(java_json.parse(text))
        except ValueError:
            return self.text(text)

    def value(self, value):
        if isinstance(value, dict):
            return {self.text(key): "<n>" if key in _OWN_PACE else self.value(each) for key, each in value.items()}
        if isinstance(value, list):
            # Sets everywhere but in records, which carry their place.
            return sorted((self.value(each) for each in value), key=java_json.compact)
        if isinstance(value, str):
            return self._any_text(value)
        if isinstance(value, int) and not isinstance(value, bool) and _TIME.fullmatch(str(value)):
            return "<time>"
        return value


def _decoded(handle):
    """A handle holds a time and an id of its own."""
    try:
        return base64.urlsafe_b64decode(handle).decode()
    except (binascii.Error, ValueError):
        return handle
