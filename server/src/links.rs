//! How the control thread reaches the shards.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::control::link::{ConnectionId, LocalFuture, MetadataChange, ShardAnswer, ShardLinks, ShardQuery};
use crate::mesh::{Inbox, MeshMessage};

pub struct MeshLinks {
    inboxes: Vec<Arc<Inbox>>,
}

impl MeshLinks {
    pub fn new(inboxes: Vec<Arc<Inbox>>) -> Self {
        Self { inboxes }
    }
}

impl ShardLinks for MeshLinks {
    fn shards(&self) -> usize {
        self.inboxes.len()
    }

    fn send(&self, to: ConnectionId, frame: Vec<u8>) {
        self.inboxes[to.shard as usize].push(MeshMessage::FromControl { connection: to, frame });
    }

    fn check(&self, producer: ConnectionId, frame: Vec<u8>) {
        self.inboxes[producer.shard as usize].push(MeshMessage::Check { connection: producer, frame });
    }

    fn close(&self, connection: ConnectionId) {
        self.inboxes[connection.shard as usize].push(MeshMessage::CloseConnection { connection });
    }

    fn publish(&self, changes: Arc<[MetadataChange]>) -> LocalFuture<()> {
        let confirmations: Vec<_> = self
            .inboxes
            .iter()
            .map(|inbox| {
                let (confirm, confirmed) = oneshot::channel();
                inbox.push(MeshMessage::Publish { changes: Arc::clone(&changes), confirm });
                confirmed
            })
            .collect();
        Box::pin(async move {
            for confirmed in confirmations {
                // A shard that is gone ends the process; there is nobody left to tell.
                let _ = confirmed.await;
            }
        })
    }

    fn query(&self, shard: usize, query: ShardQuery) -> LocalFuture<ShardAnswer> {
        let (answer, answered) = oneshot::channel();
        self.inboxes[shard].push(MeshMessage::Query { query, answer });
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| ShardAnswer::Failed("the shard is shutting down".to_owned()))
        })
    }
}
