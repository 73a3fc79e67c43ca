//! Bounds of everything that grows on the control thread. At a bound the caller is refused with the reason.

/// Topics of one broker, system topics and retry topics included. A full registration names them all in one
/// frame.
pub const TOPICS_MAX: usize = 25_000;
/// A topic in a full registration at its longest: its name twice, and its configuration without attributes.
const REGISTERED_TOPIC_BYTES: usize = 2 * 255 + 150;
/// Read or write queues of one topic. Java has no bound and dies of memory instead.
pub const QUEUES_PER_TOPIC_MAX: i32 = 65_536;
pub const ATTRIBUTES_PER_TOPIC_MAX: usize = 64;

/// Consumer groups with a configuration.
pub const GROUPS_MAX: usize = 200_000;

/// Topics that one group may not read.
pub const FORBIDDEN_TOPICS_MAX: usize = 1_000;
/// Topics, and pairs of topic and group, whose traffic is told.
pub const TRAFFIC_MAX: usize = 50_000;
/// Entries of a queue's index in one answer.
pub const QUEUE_ENTRIES_MAX: usize = 1_024;

/// Groups of one kind (producer or consumer) that have a client online.
pub const ONLINE_GROUPS_MAX: usize = 200_000;
pub const CLIENTS_PER_GROUP_MAX: usize = 50_000;
/// Groups one connection may take part in.
pub const GROUPS_PER_CONNECTION_MAX: usize = 10_000;
pub const SUBSCRIPTIONS_PER_GROUP_MAX: usize = 10_000;
pub const CLIENT_ID_LEN_MAX: usize = 1024;

/// Order locks of one group; more queues than any topic has are never locked.
pub const LOCKS_PER_GROUP_MAX: usize = 2 * QUEUES_PER_TOPIC_MAX as usize;
pub const LOCKED_GROUPS_MAX: usize = ONLINE_GROUPS_MAX;

/// Topic and group changes that may wait while the state file of earlier ones is written.
pub const CHANGES_WAITING_MAX: usize = 20_000;

/// Client requests in the inbox; one more is answered SYSTEM_BUSY by its shard.
pub const REQUESTS_WAITING_MAX: usize = 65_536;
pub const REQUEST_BYTES_WAITING_MAX: usize = 256 << 20;

/// Requests of the broker that wait for clients' answers, and the bytes of these requests; one more fails.
pub const CALLS_WAITING_MAX: usize = 65_536;
pub const CALL_BYTES_WAITING_MAX: usize = 256 << 20;
/// Clients that one request of a tool asks at a time; the others are asked as these answer.
pub const CALLS_AT_ONCE_MAX: usize = 256;

/// Changes of the configuration of a running broker; what was replaced stays in memory, some kilobytes each time.
pub const CONFIG_CHANGES_MAX: usize = 100_000;

/// Topic and group pairs with a request mode of their own; one more is refused.
pub const REQUEST_MODES_MAX: usize = 200_000;
/// Routes kept for assignments; then all are asked for anew.
pub const ROUTES_MAX: usize = 10_000;
pub const NAME_SERVERS_MAX: usize = 64;
/// An answer of a name server: the ordered-topic table at most.
pub const NAME_SERVER_FRAME_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(CALL_BYTES_WAITING_MAX > rmq_protocol::FRAME_SIZE_MAX);
const _: () = assert!(CALLS_WAITING_MAX > CALLS_AT_ONCE_MAX);
const _: () = assert!(REQUEST_BYTES_WAITING_MAX > rmq_protocol::FRAME_SIZE_MAX);
const _: () = assert!(TOPICS_MAX * REGISTERED_TOPIC_BYTES < rmq_protocol::FRAME_SIZE_MAX);
const _: () = assert!(GROUPS_PER_CONNECTION_MAX <= ONLINE_GROUPS_MAX);
const _: () = assert!(ONLINE_GROUPS_MAX <= GROUPS_MAX);
const _: () = assert!(QUEUES_PER_TOPIC_MAX as usize <= LOCKS_PER_GROUP_MAX);
