//! The Rust client: sends and consumes with a push consumer. Arguments: name server, topic.

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
    match exchange(&arguments[1], &arguments[2]) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("FAIL runs to its end: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exchange(namesrv: &str, topic: &str) -> Result<bool, Box<dyn Error>> {
    let owner = RuntimeOwner::new()?;
    let telemetry = TelemetryRuntimeGuard::noop();
    let runtime = ClientRuntime::try_new(
        owner.root_context().component("exchange"),
        ClientRuntimeConfig::default(),
        telemetry.handle(),
    )?;
    let passed = owner.block_on(async {
        let sent = produce(runtime.clone(), namesrv, topic).await?;
        let received = consume(runtime.clone(), namesrv, topic).await?;
        ClientResult::Ok(sent && received)
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

fn check(what: &str, passed: bool, found: impl std::fmt::Display) -> bool {
    if passed {
        println!("PASS {what}");
    } else {
        println!("FAIL {what}: {found}");
    }
    passed
}
