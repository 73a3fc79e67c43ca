//! Where the queues of a topic are, on all brokers: asked of the name servers, and kept for a while.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rmq_protocol::body::{MessageQueue, TopicRouteData};

use super::limits::ROUTES_MAX;
use super::name_server::NameServerConnection;
use super::settings::ControlSettings;
use super::topics::PERM_READ;

/// A name server that is asked for a route and silent for longer is passed over.
const ASK: Duration = Duration::from_secs(3);
/// Time for which a topic without a route is not asked for again.
const NONE_FOR: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Routes {
    known: RefCell<BTreeMap<String, Known>>,
    /// One question at a time: whoever waits finds the answer of the one before.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    since: Instant,
    /// Sorted, readable queues.
    queues: Option<Vec<MessageQueue>>,
}

impl Routes {
    /// `None`: no name server knows the topic.
    pub async fn queues(&self, settings: &ControlSettings, topic: &str) -> Option<Vec<MessageQueue>> {
        if let Some(fresh) = self.fresh(settings, topic) {
            return fresh.queues;
        }
        let _one = self.asking.lock().await;
        if let Some(fresh) = self.fresh(settings, topic) {
            return fresh.queues;
        }
        let asked = tokio::time::timeout(ASK, ask(settings, topic)).await.unwrap_or(Asked::Unreachable);
        let mut known = self.known.borrow_mut();
        let queues = match asked {
            Asked::Route(route) => Some(queues_of(topic, &route)),
            Asked::None => None,
            // What was known stays right more likely than not.
            Asked::Unreachable => known.get(topic).and_then(|known| known.queues.clone()),
        };
        if known.len() >= ROUTES_MAX && !known.contains_key(topic) {
            known.clear();
        }
        known.insert(topic.to_owned(), Known { since: Instant::now(), queues: queues.clone() });
        queues
    }

    fn fresh(&self, settings: &ControlSettings, topic: &str) -> Option<Known> {
        let known = self.known.borrow().get(topic)?.clone();
        let life = match known.queues {
            Some(_) => Duration::from_millis(settings.route_life_ms),
            None => NONE_FOR,
        };
        (known.since.elapsed() < life).then_some(known)
    }
}

enum Asked {
    Route(TopicRouteData),
    None,
    Unreachable,
}

async fn ask(settings: &ControlSettings, topic: &str) -> Asked {
    let mut answer = Asked::Unreachable;
    for address in &settings.name_servers {
        let Ok(mut connection) = NameServerConnection::open(address).await else { continue };
        match connection.route(topic).await {
            Ok(Some(route)) => return Asked::Route(route),
            Ok(None) => answer = Asked::None,
            Err(_) => {}
        }
    }
    answer
}

fn queues_of(topic: &str, route: &TopicRouteData) -> Vec<MessageQueue> {
    let readable = route.queue_datas.iter().filter(|data| data.perm & PERM_READ != 0);
    let mut queues: Vec<MessageQueue> = readable
        .flat_map(|data| {
            (0..data.read_queue_nums).map(|queue_id| MessageQueue {
                broker_name: data.broker_name.clone(),
                queue_id,
                topic: topic.to_owned(),
            })
        })
        .collect();
    queues.sort_unstable();
    queues
}
