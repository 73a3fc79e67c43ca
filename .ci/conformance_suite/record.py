"""Message records as pulls and views return them, decoded into what a client can see of them."""

import struct
import zlib

MAGIC_V1 = 0xDAA320A7
BORN_V6, STORE_V6 = 0x10, 0x20


def looks_like_records(body):
    return len(body) >= 91 and struct.unpack_from(">I", body, 4)[0] >> 8 == MAGIC_V1 >> 8


def decode_all(body):
    records = []
    while body:
        size, = struct.unpack_from(">I", body)
        records.append(_decode(body[:size]))
        body = body[size:]
    return records


def _decode(raw):
    size, magic, crc, queue, flag, queue_offset, _, sys_flag = struct.unpack_from(">IIIiiqqi", raw)
    at = 40 + 8
    born_len, store_len = (16 if sys_flag & bit else 4 for bit in (BORN_V6, STORE_V6))
    born_host = raw[at:at + born_len]
    at += born_len + 4 + 8
    store_host, store_port = raw[at:at + store_len], struct.unpack_from(">i", raw, at + store_len)[0]
    at += store_len + 4
    reconsumed, prepared, body_len = struct.unpack_from(">iqi", raw, at)
    at += 16
    body = raw[at:at + body_len]
    at += body_len
    topic_len = raw[at]
    topic = raw[at + 1:at + 1 + topic_len].decode()
    at += 1 + topic_len
    properties_len, = struct.unpack_from(">h", raw, at)
    properties = raw[at + 2:at + 2 + properties_len].decode()
    return {"magic": hex(magic), "crcIsRight": crc == zlib.crc32(body) & 0x7FFFFFFF, "queueId": queue, "flag": flag,
            "queueOffset": queue_offset, "sysFlag": sys_flag, "bornHost": born_host.hex(), "storeHost": store_host.hex(),
            "storePort": f"127.0.0.1:{store_port}", "reconsumeTimes": reconsumed, "preparedOffset": "a place" if prepared else 0,
            "body": body.decode("latin1"), "topic": topic, "sizeIsRight": size == at + 2 + properties_len,
            "properties": pairs(properties)}


def pairs(properties):
    """A pair without a separator is a text of its own, which one of the servers may have passed on."""
    split = (pair.partition("\x01") for pair in properties.split("\x02") if pair)
    return {key: value if mark else None for key, mark, value in split}


def batch_entry(body, properties=""):
    """One message of a batch as senders encode it."""
    properties = properties.encode()
    size = 4 * 5 + len(body) + 2 + len(properties)
    return struct.pack(">IIIii", size, 0, 0, 0, len(body)) + body + struct.pack(">h", len(properties)) + properties
