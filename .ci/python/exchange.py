"""The wheel with the old C++ client: every way it sends, and its push and pull consumers. Argument: name server."""

import os
import sys
import threading
import time

from rocketmq.client import Message, Producer, PullConsumer, PushConsumer, SendStatus

TOPIC = "cpp-topic"
COUNT = 20
LIMIT_S = 70
failed = 0


def check(what, passed, found):
    global failed
    if not passed:
        failed += 1
    print(f"PASS {what}" if passed else f"FAIL {what}: {found}", flush=True)


def until(condition):
    deadline = time.monotonic() + LIMIT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def message(key, tag):
    made = Message(TOPIC)
    made.set_keys(key)
    made.set_tags(tag)
    made.set_property("user", "value")
    made.set_body(f"body of {key}")
    return made


def produce(namesrv):
    producer = Producer("G_cpp_producer")
    producer.set_namesrv_addr(namesrv)
    producer.start()
    results = [producer.send_sync(message(f"k{i}", "TagA")) for i in range(COUNT)]
    check("every sync send is acknowledged", all(each.status == SendStatus.OK for each in results), results)
    check("message ids differ", len({each.msg_id for each in results}) == COUNT, results)
    ordered = [producer.send_orderly(message(f"ordered{i}", "TagO"), 1) for i in range(3)]
    offsets = [each.offset for each in ordered]
    check("sends to one queue get consecutive offsets", offsets == list(range(offsets[0], offsets[0] + 3)), offsets)
    producer.send_oneway(message("oneway", "TagB"))
    return producer


def push(namesrv, expected):
    bodies = {}
    again = []
    lock = threading.Lock()

    def on_message(received):
        key = received.keys.decode()
        with lock:
            if received.reconsume_times > 0:
                again.append(key)
            elif key == "k3":
                raise ValueError("fails once, as it should")
            bodies[key] = (received.body.decode(), received["user"])

    consumer = PushConsumer("G_cpp")
    consumer.set_namesrv_addr(namesrv)
    consumer.subscribe(TOPIC, on_message)
    consumer.start()
    until(lambda: len(bodies) >= expected and "k3" in again)
    check("the push consumer gets every message", len(bodies) == expected, sorted(bodies))
    # The library sends back the rest of the batch with the message that failed.
    check("a failed message comes again", "k3" in again, again)
    wrong = [(key, got) for key, got in bodies.items() if got != (f"body of {key}", b"value")]
    check("bodies and properties are intact", not wrong, wrong)
    return consumer


def pull(namesrv, expected):
    consumer = PullConsumer("G_cpp_pull")
    consumer.set_namesrv_addr(namesrv)
    consumer.start()
    keys = {each.keys.decode() for each in consumer.pull(TOPIC)}
    check("the pull consumer gets every message", len(keys) == expected, sorted(keys))
    return consumer


def main():
    namesrv = sys.argv[1]
    expected = COUNT + 4
    clients = [produce(namesrv), push(namesrv, expected), pull(namesrv, expected)]
    for client in reversed(clients):
        client.shutdown()
    # Its library's own threads may hang in exit handlers; the verdict is in.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


main()
