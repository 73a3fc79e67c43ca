//! One pop's way through the queues: which shards it asks, in which order, until it has enough.
//!
//! One shard after the other, because what is handed out is hidden from everybody else: asked all at once they
//! would hide more than the client takes. The order is drawn anew for each pop, so that no queue is always last.

use std::rc::Rc;
use std::sync::Arc;

use super::names::Source;
use super::request::{Place, PopAnswer, PopAsk, PopRequest, Portion, Purpose};
use super::visit;
use crate::broker::filter::Filter;
use crate::limits::POP_ANSWER_BYTES;
use crate::shard::Shard;

/// Places of one shard, visited together.
struct Leg {
    shard: usize,
    places: Vec<Place>,
}

/// `queue`: below zero for all.
fn plan(shard: &Shard, request: &PopRequest, queue: i32) -> Vec<Leg> {
    let settings = &shard.settings.pop;
    let draw = (shard.random() % 100) as i32;
    let retry_first = match request.purpose {
        Purpose::Pop => (draw as u32) < settings.retry_first_percent,
        Purpose::Peek | Purpose::Look => draw % 5 == 0,
    };
    // A receipt has one entry for retry queues, so a pop reads one of the two kinds of topics.
    let retries: &[Source] = match (settings.retry_topic_v2, settings.retry_topic_v1_too, request.purpose) {
        _ if request.order.is_some() => &[],
        (false, ..) => &[Source::RetryV1],
        (true, true, Purpose::Look) => &[Source::RetryV2, Source::RetryV1],
        (true, true, Purpose::Pop) if draw % 2 == 0 => &[Source::RetryV1],
        (true, ..) => &[Source::RetryV2],
    };
    let mut legs = Vec::new();
    let add_retries = |legs: &mut Vec<Leg>| {
        for &source in retries {
            add_topic(shard, request, source, -1, draw, legs);
        }
    };
    if retry_first {
        add_retries(&mut legs);
    }
    add_topic(shard, request, Source::Normal, queue, draw, &mut legs);
    if !retry_first {
        add_retries(&mut legs);
    }
    legs
}

fn add_topic(
    shard: &Shard,
    request: &PopRequest,
    source: Source,
    queue: i32,
    draw: i32,
    legs: &mut Vec<Leg>,
) {
    let name = source.topic(&request.group, &request.topic);
    let Some(topic) = shard.metadata.topic(&name) else { return };
    let queues = topic.config().read_queue_nums;
    let shards = shard.ownership.shards();
    if queue >= 0 {
        let owner = shard.ownership.owner(&name, queue);
        return add(legs, owner, Place { source, queue });
    }
    for turn in 0..shards {
        let owner = (turn + draw as usize) % shards;
        let drawn = (0..queues).map(|at| (at + draw) % queues);
        for queue in drawn.filter(|&queue| shard.ownership.owner(&name, queue) == owner) {
            add(legs, owner, Place { source, queue });
        }
    }
}

fn add(legs: &mut Vec<Leg>, shard: usize, place: Place) {
    match legs.last_mut() {
        Some(leg) if leg.shard == shard => leg.places.push(place),
        _ => legs.push(Leg { shard, places: vec![place] }),
    }
}

/// What the queues give, of other shards durably written down; of this one, up to `Portion::end`.
pub async fn run(
    shard: &Rc<Shard>,
    request: &Arc<PopRequest>,
    filter: &Filter,
    queue: i32,
    room: u32,
) -> Portion {
    let mut portion = Portion::default();
    for Leg { shard: owner, places } in plan(shard, request, queue) {
        let left = if portion.records.len() < POP_ANSWER_BYTES { room - portion.messages } else { 0 };
        if owner == shard.index {
            portion.add(visit::visit(shard, request, filter, &places, left).await);
            continue;
        }
        let ask = PopAsk::Visit { request: Arc::clone(request), places, room: left };
        if let PopAnswer::Portion(mut theirs) = shard.pop.ask(shard, owner, ask).await {
            // A position in their log; they waited for it.
            theirs.end = None;
            portion.add(theirs);
        }
    }
    portion
}
