//! The Rust client: sends and consumes with a push consumer. Arguments: name server, topic, and `languages` to exchange
//! compressed bodies with the other clients.

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rocketmq_client_rust::{
    ClientResult, ClientRuntime, ClientRuntimeConfig, ConsumeConcurrentlyContext, ConsumeConcurrentlyStatus,
    DefaultMQProducer, DefaultMQPushConsumer, MQPushConsumer, MessageListenerConcurrently,
};
use rocketmq_model::common::message::message_ext::MessageExt;
use rocketmq_model::common::message::message_single::Message;
use rocketmq_observability::TelemetryRuntimeGuard;
use rocketmq_runtime::RuntimeOwner;

const COUNT: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let part = arguments.get(3).map_or("exchange", String::as_str);
    match exchange(&arguments[1], &arguments[2], part) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("FAIL runs to its end: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exchange(namesrv: &str, topic: &str, part: &str) -> Result<bool, Box<dyn Error>> {
    let owner = RuntimeOwner::new()?;
    let telemetry = TelemetryRuntimeGuard::noop();
    let runtime = ClientRuntime::try_new(
        owner.root_context().component("exchange"),
        ClientRuntimeConfig::default(),
        telemetry.handle(),
    )?;
    let passed = owner.block_on(async {
        if part == "languages" {
            return languages(runtime.clone(), namesrv, topic).await;
        }
        let sent = produce(runtime.clone(), namesrv, topic).await?;
        let received = consume(runtime.clone(), namesrv, topic).await?;
        let chosen = tags_and_delay(runtime.clone(), namesrv, topic).await?;
        ClientResult::Ok(sent && received && chosen)
    });
    // A client that does not close cleanly is its own affair; the checks above are about the server.
    owner.block_on(runtime.shutdown());
    let _report = owner.shutdown_runtime_blocking()?;
    Ok(passed?)
}

async fn produce(runtime: Arc<ClientRuntime>, namesrv: &str, topic: &str) -> ClientResult<bool> {
    let mut producer = DefaultMQProducer::builder(runtime)
        .producer_group("G_rust_producer")
        .name_server_addr(namesrv)
        .build();
    producer.start().await?;
    let mut acknowledged = 0;
    for number in 0..COUNT {
        let message = Message::builder()
            .topic(topic)
            .tags("TagA")
            .key(format!("k{number}"))
            .body(format!("body of k{number}"))
            .build_unchecked();
        match producer.send_with_timeout(message, 5000).await {
            Ok(_) => acknowledged += 1,
            Err(error) => println!("send: {error}"),
        }
    }
    producer.shutdown().await;
    Ok(check("every send is acknowledged", acknowledged == COUNT, acknowledged))
}

/// Body by key, and how often a message came.
type Seen = Arc<Mutex<HashMap<String, (String, usize)>>>;

struct Listener(Seen);

impl MessageListenerConcurrently for Listener {
    fn consume_message(
        &self,
        messages: &[&MessageExt],
        _context: &ConsumeConcurrentlyContext,
    ) -> ClientResult<ConsumeConcurrentlyStatus> {
        let mut seen = self.0.lock().expect("no listener panics");
        for message in messages {
            let key = message.message_inner().keys().unwrap_or_default().join(" ");
            let body = message.body().unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            seen.entry(key).or_insert((body, 0)).1 += 1;
        }
        Ok(ConsumeConcurrentlyStatus::ConsumeSuccess)
    }
}

async fn consume(runtime: Arc<ClientRuntime>, namesrv: &str, topic: &str) -> ClientResult<bool> {
    let seen = Seen::default();
    let mut consumer =
        DefaultMQPushConsumer::builder(runtime).consumer_group("G_rust").name_server_addr(namesrv).build();
    consumer.subscribe(topic, "*").await?;
    consumer.register_message_listener_concurrently(Listener(seen.clone()));
    consumer.start().await?;
    let began = Instant::now();
    while seen.lock().expect("no listener panics").len() < COUNT && began.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    consumer.shutdown().await;

    let seen = seen.lock().expect("no listener panics");
    let intact = seen.iter().all(|(key, (body, times))| *body == format!("body of {key}") && *times == 1);
    let complete = check("every message is consumed", seen.len() == COUNT, seen.len());
    Ok(check("each once and intact", intact, format!("{seen:?}")) && complete)
}

/// Body and time of arrival by key.
type Arrived = Arc<Mutex<HashMap<String, (String, Instant)>>>;

struct Keeper(Arrived);

impl MessageListenerConcurrently for Keeper {
    fn consume_message(
        &self,
        messages: &[&MessageExt],
        _context: &ConsumeConcurrentlyContext,
    ) -> ClientResult<ConsumeConcurrentlyStatus> {
        let mut arrived = self.0.lock().expect("no listener panics");
        for message in messages {
            let key = message.message_inner().keys().unwrap_or_default().join(" ");
            let body = message.body().unwrap_or_default();
            arrived.insert(key, (String::from_utf8_lossy(&body).into_owned(), Instant::now()));
        }
        Ok(ConsumeConcurrentlyStatus::ConsumeSuccess)
    }
}

async fn receive(
    runtime: Arc<ClientRuntime>,
    namesrv: &str,
    group: &str,
    topic: &str,
    tags: &str,
    expected: usize,
) -> ClientResult<HashMap<String, (String, Instant)>> {
    let arrived = Arrived::default();
    let mut consumer = DefaultMQPushConsumer::builder(runtime).consumer_group(group).name_server_addr(namesrv).build();
    consumer.subscribe(topic, tags).await?;
    consumer.register_message_listener_concurrently(Keeper(arrived.clone()));
    consumer.start().await?;
    let began = Instant::now();
    while arrived.lock().expect("no listener panics").len() < expected && began.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    consumer.shutdown().await;
    let arrived = arrived.lock().expect("no listener panics").clone();
    Ok(arrived)
}

async fn tags_and_delay(runtime: Arc<ClientRuntime>, namesrv: &str, topic: &str) -> ClientResult<bool> {
    let mut producer = DefaultMQProducer::builder(runtime.clone())
        .producer_group("G_rust_tags_producer")
        .name_server_addr(namesrv)
        .build();
    producer.start().await?;
    for number in 0..6 {
        let tag = if number % 2 == 1 { "BB" } else { "Aa" };
        let message =
            Message::builder().topic(topic).tags(tag).key(format!("h{number}")).body("hashed").build_unchecked();
        producer.send_with_timeout(message, 5000).await?;
    }
    let sent = Instant::now();
    let later = Message::builder().topic(topic).tags("later").key("later").body("later").delay_level(2).build_unchecked();
    producer.send_with_timeout(later, 5000).await?;
    producer.shutdown().await;

    let found = receive(runtime.clone(), namesrv, "G_rust_tags", topic, "BB", 3).await?;
    let mut keys: Vec<&str> = found.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let hashed = check("tags of one hash: the subscribed one only", keys == ["h1", "h3", "h5"], format!("{keys:?}"));
    let found = receive(runtime, namesrv, "G_rust_delay", topic, "later", 1).await?;
    let waited = found.get("later").map_or(Duration::ZERO, |(_, at)| *at - sent);
    let in_time = waited >= Duration::from_millis(4980) && waited < Duration::from_secs(12);
    Ok(check("delay level 2 waits five seconds", in_time, format!("{waited:?}")) && hashed)
}

async fn languages(runtime: Arc<ClientRuntime>, namesrv: &str, topic: &str) -> ClientResult<bool> {
    const CLIENTS: [&str; 5] = ["ali-ons", "cpp-wheel", "go-client", "java-5.3.3", "rust-client"];
    let text = |client: &str| format!("compressible {client} ").repeat(2000);
    let mut producer = DefaultMQProducer::builder(runtime.clone())
        .producer_group("G_rust_languages_producer")
        .name_server_addr(namesrv)
        .build();
    producer.start().await?;
    let message =
        Message::builder().topic(topic).tags("big").key("rust-client").body(text("rust-client")).build_unchecked();
    producer.send_with_timeout(message, 5000).await?;
    producer.shutdown().await;
    let found = receive(runtime, namesrv, "G_rust_languages", topic, "*", CLIENTS.len()).await?;
    let wrong: Vec<&str> = CLIENTS
        .into_iter()
        .filter(|client| found.get(*client).is_none_or(|(body, _)| *body != text(client)))
        .collect();
    Ok(check("compressed: rust-client reads the bodies of all clients", wrong.is_empty(), format!("{wrong:?}")))
}

fn check(what: &str, passed: bool, found: impl std::fmt::Display) -> bool {
    if passed {
        println!("PASS {what}");
    } else {
        println!("FAIL {what}: {found}");
    }
    passed
}
