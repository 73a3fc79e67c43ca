"""The wheel with the old C++ client: every way it sends, and its push and pull consumers.

Arguments: name server, and `languages` to exchange compressed bodies with the other clients.
"""

import os
import sys
import threading
import time

from rocketmq.client import Message, MessageModel, Producer, PullConsumer, PushConsumer, SendStatus

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


def message(key, tag, topic=TOPIC):
    made = Message(topic)
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


def receive(namesrv, name, topic, expression="*", **options):
    """A started consumer and what it gets: pairs of a message's key and its time, and the bodies by key."""
    arrived, bodies = [], {}

    def on_message(received):
        key = received.keys.decode()
        bodies[key] = received.body.decode()
        arrived.append((key, time.monotonic()))

    consumer = PushConsumer(f"G_cpp_{name}", **options)
    consumer.set_namesrv_addr(namesrv)
    consumer.set_instance_name(name)
    consumer.subscribe(topic, on_message, expression)
    consumer.start()
    return consumer, arrived, bodies


def started(namesrv, name):
    producer = Producer(f"G_cpp_{name}_producer")
    producer.set_namesrv_addr(namesrv)
    producer.start()
    return producer


def parts(namesrv):
    """Each part has a topic of its own, made by the suite: this client does not see one at once that it created."""
    producer = started(namesrv, "parts")
    for i in range(6):
        producer.send_sync(message(f"k{i}", "BB" if i % 2 else "Aa", TOPIC + "-tags"))
    for step in range(10):
        for order in range(4):
            producer.send_orderly(message(f"{order}:{step}", "TagA", TOPIC + "-orderly"), order)
    later = message("later", "TagA", TOPIC + "-delay")
    later.set_delay_time_level(2)
    sent = time.monotonic()
    producer.send_sync(later)

    begun = []
    broadcasting = {"message_model": MessageModel.BROADCASTING}
    for name, expression, options in (("tags", "BB", {}), ("orderly", "*", {"orderly": True}), ("delay", "*", {}),
                                      ("broadcast", "*", broadcasting)):
        begun.append(receive(namesrv, name, f"{TOPIC}-{name}", expression, **options))
    tags, ordered, delayed, broadcast = [arrived for _, arrived, _ in begun]
    # A member of a broadcast begins at the end, which it looks up some time after its start.
    until(lambda: producer.send_sync(message("probe", "TagA", TOPIC + "-broadcast")) and broadcast)
    for i in range(5):
        producer.send_sync(message(f"k{i}", "TagA", TOPIC + "-broadcast"))
    until(lambda: len(tags) >= 3 and len(ordered) >= 40 and delayed
          and {f"k{i}" for i in range(5)} <= {key for key, _ in broadcast})
    keys = sorted(key for key, _ in tags)
    check("tags of one hash: the subscribed one only", keys == ["k1", "k3", "k5"], keys)
    steps = {str(order): [int(key.split(":")[1]) for key, _ in ordered if key[0] == str(order)] for order in range(4)}
    check("orderly: each order's steps in their order", all(each == list(range(10)) for each in steps.values()), steps)
    waited = delayed[0][1] - sent if delayed else 0
    check("delay level 2 waits five seconds", 4.98 <= waited < 9, waited)
    keys = sorted({key for key, _ in broadcast} - {"probe"})
    check("broadcast: a member gets all", keys == [f"k{i}" for i in range(5)], keys)
    return [producer, *[consumer for consumer, _, _ in begun]]


def languages(namesrv):
    clients = ("ali-ons", "cpp-wheel", "go-client", "java-5.3.3", "rust-client")
    producer = started(namesrv, "languages")
    big = Message("languages")
    big.set_keys("cpp-wheel")
    big.set_tags("big")
    big.set_body("compressible cpp-wheel " * 2000)
    producer.send_sync(big)
    consumer, _, bodies = receive(namesrv, "languages", "languages")
    until(lambda: len(bodies) >= len(clients))
    wrong = [client for client in clients if bodies.get(client) != f"compressible {client} " * 2000]
    check("compressed: cpp-wheel reads the bodies of all clients", not wrong, wrong)
    return [producer, consumer]


def main():
    namesrv = sys.argv[1]
    if sys.argv[2:] == ["languages"]:
        languages(namesrv)
        os._exit(1 if failed else 0)
    expected = COUNT + 4
    clients = [produce(namesrv), push(namesrv, expected), pull(namesrv, expected), *parts(namesrv)]
    for client in reversed(clients):
        client.shutdown()
    # Its library's own threads may hang in exit handlers; the verdict is in.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


main()
