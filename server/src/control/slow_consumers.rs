//! Protection from groups that read far behind (`disableConsumeIfConsumerReadSlowly`): they read from disk what
//! others have long had from memory. As in Java the group is closed until a tool opens it again.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::changes::Change;
use super::link::{ShardAnswer, ShardQuery};
use super::state::State;

const LOOK: Duration = Duration::from_secs(180);

pub async fn watch(state: Rc<State>) {
    loop {
        sleep(LOOK).await;
        if state.settings.disable_slow_consumers {
            disable(&state).await;
        }
    }
}

async fn disable(state: &Rc<State>) {
    let mut slow = BTreeSet::new();
    let query = ShardQuery::GroupsBehind { bytes: state.settings.slow_consumer_bytes };
    for answer in state.query_all(query).await {
        if let ShardAnswer::Groups(groups) = answer {
            slow.extend(groups);
        }
    }
    let configs: Vec<_> = {
        let groups = state.groups.borrow();
        let open = slow.iter().filter_map(|group| groups.find(group)).filter(|config| config.consume_enable);
        open.map(|config| {
            let mut config = (**config).clone();
            config.consume_enable = false;
            config
        })
        .collect()
    };
    if configs.is_empty() {
        return;
    }
    for config in &configs {
        tracing::warn!(
            group = config.group_name,
            bytes = state.settings.slow_consumer_bytes,
            "the group is further behind than consumerFallbehindThreshold; it may not consume any more"
        );
    }
    if let Err(remark) = state.change(|reply| Change::PutGroups { configs, reply }).await {
        tracing::error!("slow groups are not closed: {remark}");
    }
}
