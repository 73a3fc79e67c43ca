//! What the broker tells and asks clients unasked.

use std::collections::BTreeMap;

use rmq_protocol::header::Codec;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::writer::FrameWriter;

use super::link::{ConnectionId, MessageModel, TransactionCheck};
use super::state::State;

/// NOTIFY_CONSUMER_IDS_CHANGED to every client of the group: they rebalance at once.
///
/// Broadcasting groups share nothing, so nobody there is disturbed.
pub fn notify_members(state: &State, group: &str) {
    let wanted = state.settings.notify_consumers
        && state.groups.borrow().find(group).is_none_or(|config| config.notify_consumer_ids_changed_enable);
    let clients = state.clients.borrow();
    let Some(members) = clients.consumer_group(group) else { return };
    if !wanted || members.message_model == MessageModel::Broadcasting {
        return;
    }
    let mut frame = Vec::new();
    // JSON, whatever the client speaks: every client reads it. One-way, so the opaque matters to nobody.
    FrameWriter::request(&mut frame, Codec::Json, RequestCode::NOTIFY_CONSUMER_IDS_CHANGED, 0, true)
        .field("consumerGroup", group)
        .finish();
    for connection in members.clients.keys() {
        state.links.send(*connection, frame.clone());
    }
}

/// Each goes to one producer of its group, in turn. Where none is online, the next check asks again.
pub fn check_transactions(state: &State, checks: Vec<TransactionCheck>) {
    let clients = state.clients.borrow();
    let mut groups: BTreeMap<String, Vec<ConnectionId>> = BTreeMap::new();
    for TransactionCheck { group, frame } in checks {
        let producers = groups.entry(group).or_insert_with_key(|group| {
            clients.producer_group(group).map(|group| group.keys().copied().collect()).unwrap_or_default()
        });
        let turn = state.next_producer.get();
        state.next_producer.set(turn.wrapping_add(1));
        if let Some(producer) = turn.checked_rem(producers.len()).map(|index| producers[index]) {
            state.links.check(producer, frame);
        }
    }
}
