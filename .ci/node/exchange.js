// ali-ons: sends to a topic that exists and consumes from it. Arguments: name server, topic, and `languages` to
// exchange compressed bodies with the other clients.
'use strict';

const { Consumer, Producer, Message } = require('ali-ons');

const [ nameSrv, topic, part ] = process.argv.slice(2);
const COUNT = 20;
const LIMIT_MS = 60000;
const logger = { debug() {}, info() {}, warn: console.log, error: console.log };
// Must be there, and is for looking up an address that we give.
const httpclient = { request: async () => { throw new Error('no address is looked up'); } };
const options = { nameSrv, logger, httpclient };
let failed = 0;

function check(what, passed, found) {
  if (!passed) failed++;
  console.log(passed ? `PASS ${what}` : `FAIL ${what}: ${found}`);
}

async function until(condition, limitMs = LIMIT_MS) {
  const deadline = Date.now() + limitMs;
  while (!condition() && Date.now() < deadline) await new Promise(done => setTimeout(done, 50));
}

// A consumer that keeps what it gets, with the time, by key.
async function receive(name, tags) {
  const found = new Map();
  const consumer = new Consumer({ ...options, consumerGroup: `G_node_${name}` });
  consumer.on('error', error => console.log(error));
  consumer.subscribe(topic, tags, async message => {
    found.set(message.keys, { at: Date.now(), body: message.body.toString() });
  });
  await consumer.ready();
  return { found, close: () => consumer.close() };
}

async function tagsAndDelay(producer) {
  for (let i = 0; i < 6; i++) {
    const message = new Message(topic, i % 2 ? 'BB' : 'Aa', 'hashed');
    message.keys = [ `hashed${i}` ];
    await producer.send(message);
  }
  const later = new Message(topic, 'later', 'later');
  later.keys = [ 'later' ];
  later.delayTimeLevel = 2;
  const sent = Date.now();
  await producer.send(later);
  const one = await receive('tags', 'BB');
  const two = await receive('delay', 'later');
  await until(() => one.found.size >= 3 && two.found.size >= 1);
  const keys = [ ...one.found.keys() ].sort().join();
  check('tags of one hash: the subscribed one only', keys === 'hashed1,hashed3,hashed5', keys);
  const waited = two.found.has('later') ? two.found.get('later').at - sent : 0;
  check('delay level 2 waits five seconds', waited >= 4980 && waited < 9000, waited);
  return [ one, two ];
}

async function languages() {
  const clients = [ 'ali-ons', 'cpp-wheel', 'go-client', 'java-5.3.3', 'rust-client' ];
  const text = client => `compressible ${client} `.repeat(2000);
  const producer = new Producer({ ...options, producerGroup: 'G_node_languages_producer' });
  producer.on('error', error => console.log(error));
  await producer.ready();
  const message = new Message(topic, 'big', text('ali-ons'));
  message.keys = [ 'ali-ons' ];
  await producer.send(message);
  const { found } = await receive('languages', '*');
  await until(() => found.size >= clients.length, 80000);
  const wrong = clients.filter(client => !found.has(client) || found.get(client).body !== text(client));
  check('compressed: ali-ons reads the bodies of all clients', wrong.length === 0, wrong);
}

async function main() {
  const producer = new Producer({ ...options, producerGroup: 'G_node_producer' });
  producer.on('error', error => console.log(error));
  await producer.ready();
  const sent = [];
  for (let i = 0; i < COUNT; i++) {
    const message = new Message(topic, i % 2 ? 'TagB' : 'TagA', `node body ${i} 消息`);
    message.keys = [ `k${i}` ];
    sent.push(await producer.send(message));
  }
  check('every send is acknowledged', sent.every(result => result.sendStatus === 'SEND_OK'), JSON.stringify(sent[0]));
  check('message ids differ', new Set(sent.map(result => result.msgId)).size === COUNT, sent.map(result => result.msgId));

  const bodies = new Map();
  const retried = [];
  const consumer = new Consumer({ ...options, consumerGroup: 'G_node' });
  consumer.on('error', error => console.log(error));
  consumer.subscribe(topic, 'TagA || TagB', async message => {
    // A failure goes back to the broker and comes again after ten seconds, through %RETRY%.
    if (message.keys === 'k3' && message.reconsumeTimes === 0) throw new Error('fails once, as it should');
    if (message.reconsumeTimes > 0) retried.push(message.keys);
    bodies.set(message.keys, message.body.toString());
  });
  await consumer.ready();
  await until(() => bodies.size >= COUNT - 1);
  check('messages are consumed', bodies.size >= COUNT - 1, bodies.size);
  await until(() => retried.includes('k3'));
  check('a failed message comes again', retried.join() === 'k3', retried);
  const wrong = [ ...bodies ].filter(([ key, body ]) => body !== `node body ${key.slice(1)} 消息`);
  check('bodies are intact', bodies.size === COUNT && wrong.length === 0, wrong);
  const others = await tagsAndDelay(producer);
  // It may complain about the sockets that it closes itself; the checks are done.
  const closed = Promise.allSettled([ consumer, ...others, producer ].map(each => each.close()));
  await Promise.race([ closed, until(() => false, 5000) ]);
}

(part === 'languages' ? languages() : main())
  .catch(error => check('runs to its end', false, error.stack))
  .then(() => process.exit(failed ? 1 : 0));
