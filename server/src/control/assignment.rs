//! Which client of a group gets which queues, as Java's brokers and clients share them out.
//!
//! Queues and clients are sorted, so every broker that is asked comes to the same result.

use rmq_protocol::body::MessageQueue;

/// Indexes of the queues for one client, by number, of so many, when there are so many queues.
pub type Strategy = fn(usize, usize, usize) -> Vec<usize>;

/// `None`: there is no such strategy.
pub fn strategy(name: &str) -> Option<Strategy> {
    match name {
        "AVG" => Some(contiguous),
        "AVG_BY_CIRCLE" => Some(in_turn),
        _ => None,
    }
}

/// Each client gets neighbours; the first get one more when it does not come out even.
fn contiguous(client: usize, clients: usize, queues: usize) -> Vec<usize> {
    let (share, more) = (queues / clients, queues % clients);
    let begin = client * share + client.min(more);
    (begin..begin + share + usize::from(client < more)).collect()
}

fn in_turn(client: usize, clients: usize, queues: usize) -> Vec<usize> {
    (client..queues).step_by(clients).collect()
}

/// The queues of a client that pops. With few shares it gets those of the clients behind it too.
pub fn popping(
    allocate: Strategy,
    client: Option<usize>,
    clients: usize,
    queues: &[MessageQueue],
    shares: i32,
) -> Vec<MessageQueue> {
    let shares = usize::try_from(shares).unwrap_or(0);
    if shares == 0 || shares + 1 >= clients {
        let mut all: Vec<MessageQueue> =
            queues.iter().map(|queue| MessageQueue { queue_id: -1, ..queue.clone() }).collect();
        all.dedup();
        return all;
    }
    let Some(client) = client else { return Vec::new() };
    if clients > queues.len() {
        return vec![queues[client % queues.len()].clone()];
    }
    let sharing = (0..=shares).map(|behind| (client + behind) % clients);
    let mut indexes: Vec<usize> =
        sharing.flat_map(|client| allocate(client, clients, queues.len())).collect();
    indexes.sort_unstable();
    indexes.dedup();
    indexes.into_iter().map(|index| queues[index].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_share_out_every_queue_once() {
        assert_eq!(
            (0..3).map(|client| contiguous(client, 3, 8)).collect::<Vec<_>>(),
            [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]
        );
        assert!(contiguous(2, 3, 2).is_empty());
        assert_eq!(in_turn(1, 3, 8), [1, 4, 7]);
        assert!(in_turn(2, 3, 2).is_empty());
        assert!(strategy("CONSISTENT_HASH").is_none());
    }

    #[test]
    fn whoever_pops_gets_all_queues_or_shares() {
        let queue = |id| MessageQueue { broker_name: "b".to_owned(), queue_id: id, topic: "T".to_owned() };
        let queues: Vec<_> = (0..8).map(queue).collect();
        assert_eq!(popping(contiguous, Some(0), 4, &queues, -1), [queue(-1)]);
        assert_eq!(popping(contiguous, None, 4, &queues, 3), [queue(-1)]);
        let two = popping(contiguous, Some(3), 4, &queues, 1);
        assert_eq!(two, [queue(0), queue(1), queue(6), queue(7)]);
        assert_eq!(popping(contiguous, Some(5), 9, &queues[..2], 1), [queue(1)]);
        assert_eq!(popping(contiguous, None, 4, &queues, 1), []);
    }
}
