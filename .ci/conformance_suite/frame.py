"""Frames of the remoting protocol, with either header codec, written and read without any library of it."""

import json
import struct

JSON, BINARY = "json", "binary"
RESPONSE, ONE_WAY = 1, 2
BINARY_MARK = 1
LANGUAGES = ("JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS",
             "RUST", "NODE_JS")


def encode(code, opaque, fields=None, body=b"", codec=JSON, flag=0, language="JAVA", version=479):
    if codec == JSON:
        header = {"code": code, "language": language, "version": version, "opaque": opaque, "flag": flag,
                  "serializeTypeCurrentRPC": "JSON"}
        if fields is not None:
            header["extFields"] = fields
        header, mark = json.dumps(header).encode(), 0
    else:
        header, mark = _binary_header(code, opaque, fields, flag, language, version), BINARY_MARK
    return struct.pack(">II", 4 + len(header) + len(body), mark << 24 | len(header)) + header + body


def _binary_header(code, opaque, fields, flag, language, version):
    pairs = b""
    for key, value in (fields or {}).items():
        key, value = key.encode(), value.encode()
        pairs += struct.pack(">h", len(key)) + key + struct.pack(">i", len(value)) + value
    low_half = struct.unpack(">h", struct.pack(">i", code)[2:])[0]
    return struct.pack(">hBhiiii", low_half, LANGUAGES.index(language), version, opaque, flag, 0, len(pairs)) + pairs


def read(stream):
    """The next frame of a buffered stream as (header, body), None at its end."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length, mark = struct.unpack(">II", head)
    header_len = mark & 0xFFFFFF
    rest = stream.read(length - 4)
    if len(rest) < length - 4:
        return None
    raw, body = rest[:header_len], rest[header_len:]
    if mark >> 24 == BINARY_MARK:
        return dict(_read_binary(raw), codec=BINARY), body
    return dict(json.loads(raw), codec=JSON), body


def _read_binary(raw):
    code, language, version, opaque, flag, remark_len = struct.unpack_from(">hBhiii", raw)
    at = 17
    remark = raw[at:at + remark_len].decode() if remark_len else None
    at += remark_len + 4
    fields = {}
    while at < len(raw):
        key_len, = struct.unpack_from(">h", raw, at)
        key = raw[at + 2:at + 2 + key_len].decode()
        at += 2 + key_len
        value_len, = struct.unpack_from(">i", raw, at)
        fields[key] = raw[at + 4:at + 4 + value_len].decode()
        at += 4 + value_len
    return {"code": code, "language": LANGUAGES[language], "version": version, "opaque": opaque, "flag": flag,
            "remark": remark, "extFields": fields}
