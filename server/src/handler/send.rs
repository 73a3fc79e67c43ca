//! SEND_MESSAGE (10), SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320).

use std::rc::Rc;

use rmq_protocol::batch::{self, BatchEntry};
use rmq_protocol::frame::Frame;
use rmq_protocol::header::Header;
use rmq_protocol::headers::SendMessageHeader;
use rmq_protocol::message_id::{MESSAGE_ID_LEN_MAX, MessageId};
use rmq_protocol::properties::{PROPERTY_SEPARATOR, Properties, name};
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::sys_flag;
use rmq_protocol::tag::tags_code;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, StateGuard, await_group, elsewhere, text};
use crate::answers::ReplyTo;
use crate::broker::key_index::Keys;
use crate::broker::message::{Message, StoreOutcome};
use crate::broker::metadata::{Queue, Topic};
use crate::broker::refusal::Refusal;
use crate::broker::store::{self, Draft};
use crate::broker::timer::{self, Accepted};
use crate::broker::{delay_levels, light_queue, retry, topic_name, transactions};
use crate::control::link::{ToControl, TopicOutcome, TopicRequest};
use crate::mesh::{MeshMessage, Verdict};
use crate::net::executor;
use crate::settings::{PERM_WRITE, Settings};
use crate::shard::{Shard, count};

pub fn send(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let result = try_send(shard, origin, frame);
    let Err(refusal) = result else { return result };
    // Java puts region and trace switch on every answer to a send, failures included.
    count(&shard.counters.put_failed, 1);
    let to = ReplyTo::of(origin.connection, &frame.header);
    shard.answers.now(&to, |out| {
        let writer = FrameWriter::response(out, to.codec, refusal.code, to.opaque).remark(&refusal.remark);
        with_region(writer, &shard.settings).finish();
    });
    Ok(Handled::Done)
}

fn try_send(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let header = SendMessageHeader::decode(RequestCode(frame.header.code), &frame.header.fields)?;
    let name = text(header.topic);
    if let Some(group) = name.strip_prefix(topic_name::RETRY_PREFIX)
        && shard.metadata.group(group).is_none()
    {
        // A group that cannot be created has no retry topic either; asking again would wait for ever.
        if await_group(shard, origin, group) {
            return Ok(Handled::Stalled);
        }
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {group}"),
        ));
    }
    let Some(topic) = shard.metadata.topic(&name) else {
        return unknown_topic(shard, origin, &header, &name);
    };
    let (write_queues, queues, order) = {
        let config = topic.config();
        (config.write_queue_nums, config.write_queue_nums.max(config.read_queue_nums), config.order)
    };
    if header.queue_id >= queues {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!(
                "request queueId[{}] is illegal, topic {} has {} queues. Producer: {}",
                header.queue_id, name, queues, origin.peer
            ),
        ));
    }
    let queue_id = match header.queue_id {
        chosen @ 0.. => chosen,
        _ => any_queue(shard, origin, &topic, write_queues)?,
    };
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &name, queue_id) {
        return Ok(handled);
    }
    admissible(shard, &topic, order)?;
    if frame.body.is_empty() {
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "the request has no body: a message needs one"));
    }
    let to = ReplyTo::of(origin.connection, &frame.header);
    let queue = shard.queue(&topic, queue_id);
    if header.batch {
        return send_batch(shard, origin, &header, &topic, &queue, frame.body, to);
    }
    send_one(shard, origin, &header, &frame.header, &topic, &queue, frame.body, to)
}

/// Java's checks that do not depend on the message.
fn admissible(shard: &Shard, topic: &Topic, order: bool) -> Result<(), Refusal> {
    let settings = &shard.settings;
    if shard.is_draining() {
        return Err(Refusal::new(
            ResponseCode::SERVICE_NOT_AVAILABLE,
            "service not available now: the broker is shutting down",
        ));
    }
    if settings.accept_sends_from_ms > 0 && store::wall_clock_ms() < settings.accept_sends_from_ms {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            format!("broker unable to service, until {}", settings.accept_sends_from_ms),
        ));
    }
    if settings.broker_permission & PERM_WRITE == 0 && order {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("the broker[{}] sending message is forbidden", settings.broker_name),
        ));
    }
    if topic_name::is_forbidden_to_send(&topic.name) {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("Sending message to topic[{}] is forbidden.", topic.name),
        ));
    }
    Ok(())
}

/// A queue for a producer that left the choice to the broker. A forwarded request chooses among the queues
/// of this shard, for its first shard has chosen one of them.
fn any_queue(shard: &Shard, origin: &Origin<'_>, topic: &Topic, write_queues: i32) -> Result<i32, Refusal> {
    let owned =
        |queue: &i32| origin.local.is_some() || shard.ownership.owner(&topic.name, *queue) == shard.index;
    let candidates: Vec<i32> = (0..write_queues).filter(owned).collect();
    if candidates.is_empty() {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!("topic {} has no queue to write to", topic.name),
        ));
    }
    Ok(candidates[shard.random() as usize % candidates.len()])
}

/// The connection waits while the control thread decides about the topic.
fn unknown_topic(
    shard: &Rc<Shard>,
    origin: &Origin<'_>,
    header: &SendMessageHeader<'_>,
    name: &str,
) -> Result<Handled, Refusal> {
    topic_name::validate(name)?;
    if topic_name::is_forbidden_to_send(name) {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("Sending message to topic[{name}] is forbidden."),
        ));
    }
    let not_exist = || {
        Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("topic[{name}] not exist, apply first please!"))
    };
    let Some(connection) = origin.local else { return Err(not_exist()) };
    match connection.take_verdict() {
        Some(Verdict::Topic { name: decided, outcome }) if decided == name => {
            return Err(match outcome {
                TopicOutcome::Failed(remark) => Refusal::new(ResponseCode::SYSTEM_ERROR, remark),
                TopicOutcome::Refused | TopicOutcome::Exists(_) => not_exist(),
            });
        }
        _ => {}
    }
    // A retry topic too: as for any other its first send decides how many queues it has.
    let request = TopicRequest::Send {
        topic: name.to_owned(),
        default_topic: text(header.default_topic.ok_or_else(|| Refusal::missing("defaultTopic"))?)
            .into_owned(),
        queues: header.default_topic_queue_nums.ok_or_else(|| Refusal::missing("defaultTopicQueueNums"))?,
        unit: header.unit_mode,
    };
    connection.stall();
    let (id, inbox, name) = (connection.id, shard.inbox(), name.to_owned());
    let reply = Box::new(move |outcome| {
        inbox.push(MeshMessage::Resume { connection: id, verdict: Verdict::Topic { name, outcome } });
    });
    shard.control.tell(ToControl::CreateTopic { request, reply });
    Ok(Handled::Stalled)
}

#[expect(clippy::too_many_arguments, reason = "the parts of one request, passed on once")]
fn send_one(
    shard: &Rc<Shard>,
    origin: &Origin<'_>,
    header: &SendMessageHeader<'_>,
    frame: &Header<'_>,
    topic: &Rc<Topic>,
    queue: &Rc<Queue>,
    body: &[u8],
    to: ReplyTo,
) -> Result<Handled, Refusal> {
    let mut stored = shard.scratch.properties.take();
    stored.clear();
    let seen = store::complete_properties(shard, header.properties, &mut stored);
    let draft = Draft {
        flag: header.flag,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        born_host: origin.peer,
        reconsume_times: header.reconsume_times,
        prepared_transaction_offset: 0,
        properties: &stored,
        filter_code: seen.filter_code(&stored),
        body,
    };
    let outcome: Result<Option<Message>, Refusal> = (|| {
        store::check_size(&shard.settings, &draft, 0)?;
        let delay_level = seen.delay_level()?;
        // Clients before 4.6.1 retry a half message with its properties: that is an ordinary message.
        let is_half = seen.is_half && !(header.reconsume_times > 0 && delay_level > 0);
        let is_retry = topic.name.starts_with(topic_name::RETRY_PREFIX);
        let has_copies = seen.has_light_queues && light_queue::is_dispatched(&shard.settings, &topic.name);
        if !is_half && (is_retry || delay_level > 0 || has_copies) {
            let mut message = draft.to_message(&topic.name, queue.id);
            if is_retry {
                retry::divert(shard, &mut message, header, frame.version)?;
            }
            delay_levels::divert(shard, &mut message);
            if message.topic != topic.name || has_copies {
                return Ok(Some(message));
            }
        }
        let uniq = seen.unique_key(&stored);
        let transaction = header.sys_flag & sys_flag::TRANSACTION_MASK;
        let is_whole = transaction == 0 || transaction == sys_flag::TRANSACTION_COMMIT;
        if seen.is_timer() && is_whole && !seen.is_half {
            match timer::accept(shard, &topic.name, queue.id, &draft)? {
                Accepted::DueNow => {}
                Accepted::Recall(message) => return Ok(Some(message)),
                Accepted::Waits { stored, out_ms } => {
                    let handle = timer::recall_handle(shard, &topic.name, out_ms, uniq.unwrap_or_default());
                    shard.answer_when_acknowledged(stored.end, to, |out| {
                        let mut text = [0; MESSAGE_ID_LEN_MAX];
                        let id = MessageId::new(shard.settings.store_host, stored.physical_offset);
                        let sent =
                            Sent { id: id.write(&mut text), queue_id: queue.id, offset: stored.queue_offset };
                        write_sent(out, &to, sent, uniq, handle.as_deref(), &shard.settings);
                    });
                    return Ok(None);
                }
            }
        }
        let _state = StateGuard::enter();
        let appended = match is_half {
            false => store::append_with_keys(shard, topic, queue, &draft, &seen.keys(&stored))?,
            true => transactions::prepare(shard, topic, queue, &draft, &seen)?,
        };
        shard.answer_when_acknowledged(appended.end, to, |out| {
            let mut text = [0; MESSAGE_ID_LEN_MAX];
            let id = MessageId::new(shard.settings.store_host, appended.physical_offset).write(&mut text);
            let sent = Sent { id, queue_id: queue.id, offset: appended.queue_offset };
            write_sent(out, &to, sent, uniq, None, &shard.settings);
        });
        Ok(None)
    })();
    let diverted =
        outcome.map(|message| message.map(|message| (message, seen.unique_key(&stored).map(str::to_owned))));
    *shard.scratch.properties.borrow_mut() = stored;
    if let Some((message, unique_key)) = diverted? {
        send_diverted(shard, message, queue.id, unique_key, to);
    }
    Ok(Handled::Done)
}

/// A delayed or dead message goes to a queue that another shard may own.
fn send_diverted(
    shard: &Rc<Shard>,
    message: Message,
    queue_id: i32,
    unique_key: Option<String>,
    to: ReplyTo,
) {
    shard.answers.defer(&to);
    let shard = Rc::clone(shard);
    executor::spawn(async move {
        let outcome = match retry::ensure_dead_letter(&shard, &message.topic).await {
            Ok(()) => store::store(&shard, message).await,
            Err(refusal) => StoreOutcome::Refused { code: refusal.code, remark: refusal.remark.into_owned() },
        };
        shard.answers.later(&to, |out| match &outcome {
            StoreOutcome::Stored { queue_offset, physical_offset } => {
                let mut text = [0; MESSAGE_ID_LEN_MAX];
                let id = MessageId::new(shard.settings.store_host, *physical_offset).write(&mut text);
                let sent = Sent { id, queue_id, offset: *queue_offset };
                write_sent(out, &to, sent, unique_key.as_deref(), None, &shard.settings);
            }
            StoreOutcome::Refused { code, remark } => {
                let writer = FrameWriter::response(out, to.codec, *code, to.opaque).remark(remark);
                with_region(writer, &shard.settings).finish();
            }
        });
        shard.answers.flush(shard.now_ms());
    });
}

fn send_batch(
    shard: &Rc<Shard>,
    origin: &Origin<'_>,
    header: &SendMessageHeader<'_>,
    topic: &Rc<Topic>,
    queue: &Rc<Queue>,
    body: &[u8],
    to: ReplyTo,
) -> Result<Handled, Refusal> {
    let illegal = |remark: &'static str| Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark);
    if topic.name.len() > topic_name::TOPIC_LENGTH_MAX {
        return Err(illegal("message topic length over 127"));
    }
    if header.sys_flag & sys_flag::TRANSACTION_MASK != 0 {
        return Err(illegal("the message is illegal: a batch cannot be part of a transaction"));
    }
    if topic.name.starts_with(topic_name::RETRY_PREFIX) {
        return Err(Refusal::new(
            ResponseCode::MESSAGE_ILLEGAL,
            format!("batch request does not support retry group {}", topic.name),
        ));
    }
    let mut of_all = Vec::new();
    let seen = store::batch_properties(shard, header.properties, &mut of_all);
    if seen.delay_level()? > 0 {
        return Err(illegal("the message is illegal: a batch cannot be delayed"));
    }
    if seen.is_timer() {
        return Err(illegal("the message is illegal: a batch cannot have a time of its own"));
    }
    if body.len() > shard.settings.message_size_max {
        return Err(store::too_large(&shard.settings));
    }
    let entries: Vec<BatchEntry<'_>> = batch::entries(body)
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::new(ResponseCode::MESSAGE_ILLEGAL, error.to_string()))?;
    // One text for the properties of all messages, so that none needs memory of its own.
    let len: usize = entries.iter().map(|entry| entry.properties.0.len() + 1 + of_all.len()).sum();
    let mut properties = Vec::with_capacity(len);
    let ends: Vec<usize> = entries
        .iter()
        .map(|entry| {
            properties.extend_from_slice(entry.properties.0);
            if entry.properties.0.last().is_some_and(|&last| last != PROPERTY_SEPARATOR) {
                properties.push(PROPERTY_SEPARATOR);
            }
            properties.extend_from_slice(&of_all);
            properties.len()
        })
        .collect();
    let mut drafts = Vec::with_capacity(entries.len());
    let mut keys = Vec::with_capacity(entries.len());
    let mut from = 0;
    for (entry, end) in entries.iter().zip(ends) {
        let properties = Properties(&properties[std::mem::replace(&mut from, end)..end]);
        let mut of_this = Keys::default();
        let mut tags = None;
        for (name, value) in properties.iter() {
            if name == name::TAGS.as_bytes() {
                tags = std::str::from_utf8(value).ok();
            } else {
                of_this.take(name, value);
            }
        }
        keys.push(of_this);
        let draft = Draft {
            flag: entry.flag,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            born_host: origin.peer,
            reconsume_times: header.reconsume_times,
            prepared_transaction_offset: 0,
            properties: properties.0,
            filter_code: tags_code(tags),
            body: entry.body,
        };
        store::check_size(&shard.settings, &draft, 0)?;
        drafts.push(draft);
    }
    if drafts.is_empty() {
        return Err(illegal("the batch holds no message"));
    }
    let _state = StateGuard::enter();
    let appended = store::append_batch(shard, topic, queue, &drafts, &keys)?;
    shard.answer_when_acknowledged(appended.end, to, |out| {
        let mut ids = String::with_capacity(appended.physical_offsets.len() * 33);
        for &offset in &appended.physical_offsets {
            if !ids.is_empty() {
                ids.push(',');
            }
            let mut text = [0; MESSAGE_ID_LEN_MAX];
            ids.push_str(MessageId::new(shard.settings.store_host, offset).write(&mut text));
        }
        let sent = Sent { id: &ids, queue_id: queue.id, offset: appended.queue_offset };
        write_sent(out, &to, sent, None, None, &shard.settings);
    });
    Ok(Handled::Done)
}

/// Where a message went.
struct Sent<'a> {
    id: &'a str,
    queue_id: i32,
    offset: i64,
}

fn write_sent(
    out: &mut Vec<u8>,
    to: &ReplyTo,
    sent: Sent<'_>,
    unique_key: Option<&str>,
    recall_handle: Option<&str>,
    settings: &Settings,
) {
    let mut writer = FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque)
        .field("msgId", sent.id)
        .field_int("queueId", sent.queue_id)
        .field_int("queueOffset", sent.offset);
    if let Some(unique_key) = unique_key {
        writer = writer.field("transactionId", unique_key);
    }
    if let Some(handle) = recall_handle {
        writer = writer.field("recallHandle", handle);
    }
    with_region(writer, settings).finish();
}

fn with_region<'v>(writer: FrameWriter<'v>, settings: &Settings) -> FrameWriter<'v> {
    writer
        .field("MSG_REGION", &settings.region)
        .field("TRACE_ON", if settings.trace_on { "true" } else { "false" })
}

/// The prepared answer of a send again, now as FLUSH_DISK_TIMEOUT: stored, but not yet known to be durable.
pub fn write_flush_timeout(out: &mut Vec<u8>, to: &ReplyTo, prepared: &[u8]) {
    let Ok(Some((frame, _))) = Frame::decode(prepared) else { return };
    // The end of a transaction: Java says that all is well, and the client asks for nothing more.
    if frame.header.fields.find("msgId").is_none() {
        return out.extend_from_slice(prepared);
    }
    let mut writer = FrameWriter::response(out, to.codec, ResponseCode::FLUSH_DISK_TIMEOUT, to.opaque);
    for name in ["msgId", "queueId", "queueOffset", "transactionId", "recallHandle", "MSG_REGION", "TRACE_ON"]
    {
        if let Some(value) = frame.header.fields.find(name) {
            writer = writer.field_text(name, value);
        }
    }
    writer.finish();
}
