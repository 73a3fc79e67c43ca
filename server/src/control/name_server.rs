//! A connection to one name server: one request at a time, pushes ignored, a close noticed.

use std::io;

use rmq_protocol::body::{KvTable, TopicRouteData, from_slice, register_body_crc32};
use rmq_protocol::frame::{Frame, FrameError};
use rmq_protocol::header::Codec;
use rmq_protocol::headers::{RegisterBrokerHeader, UnregisterBrokerHeader};
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::text::Text;
use rmq_protocol::writer::FrameWriter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::limits::NAME_SERVER_FRAME_MAX;
use super::settings::ControlSettings;

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed")]
    Closed,
    #[error("no answer in time")]
    Silent,
    #[error("what it sends is not the remoting protocol: {0}")]
    Garbage(String),
    #[error("it refuses the registration with code {code}: {remark}")]
    Refused { code: i32, remark: String },
}

pub struct NameServerConnection {
    stream: TcpStream,
    received: Vec<u8>,
    opaque: i32,
}

/// What the name server said to a registration.
pub struct Registered {
    pub code: ResponseCode,
    pub remark: String,
    /// Topics that have an order configuration there.
    pub ordered_topics: Vec<String>,
}

impl NameServerConnection {
    pub async fn open(address: &str) -> Result<Self, Lost> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new(), opaque: 0 })
    }

    pub async fn register(&mut self, settings: &ControlSettings, body: &[u8]) -> Result<Registered, Lost> {
        let header = RegisterBrokerHeader {
            broker_name: Text::from(settings.broker.as_str()),
            broker_address: Text::from(settings.address.as_str()),
            cluster_name: Text::from(settings.cluster.as_str()),
            ha_server_address: Some(Text::from(settings.ha_address.as_str())),
            broker_id: settings.broker_id,
            heartbeat_timeout_ms: None,
            enable_acting_master: Some(false),
            compressed: false,
            body_crc32: Some(register_body_crc32(body)),
            zone: None,
        };
        self.opaque = self.opaque.wrapping_add(1);
        let mut frame = Vec::new();
        let mut writer =
            FrameWriter::request(&mut frame, Codec::Json, RequestCode::REGISTER_BROKER, self.opaque, false);
        header.encode(&mut writer);
        writer.body(body);
        self.call(&frame, |frame| Registered {
            code: frame.header.response_code(),
            remark: frame.header.remark.map_or_else(String::new, |remark| remark.cow().into_owned()),
            ordered_topics: ordered_topics(frame.body),
        })
        .await
    }

    /// Where a topic is; `None` when the name server does not know it.
    pub async fn route(&mut self, topic: &str) -> Result<Option<TopicRouteData>, Lost> {
        self.opaque = self.opaque.wrapping_add(1);
        let mut frame = Vec::new();
        FrameWriter::request(
            &mut frame,
            Codec::Json,
            RequestCode::GET_ROUTEINFO_BY_TOPIC,
            self.opaque,
            false,
        )
        .field("topic", topic)
        .field("acceptStandardJsonOnly", "true")
        .finish();
        self.call(&frame, |frame| match frame.header.response_code() {
            ResponseCode::SUCCESS => from_slice(frame.body).ok(),
            _ => None,
        })
        .await
    }

    pub async fn unregister(&mut self, settings: &ControlSettings) -> Result<(), Lost> {
        let header = UnregisterBrokerHeader {
            broker_name: Text::from(settings.broker.as_str()),
            broker_address: Text::from(settings.address.as_str()),
            cluster_name: Text::from(settings.cluster.as_str()),
            broker_id: settings.broker_id,
        };
        self.opaque = self.opaque.wrapping_add(1);
        let mut frame = Vec::new();
        let mut writer =
            FrameWriter::request(&mut frame, Codec::Json, RequestCode::UNREGISTER_BROKER, self.opaque, false);
        header.encode(&mut writer);
        writer.finish();
        self.call(&frame, |_| ()).await
    }

    /// Resolves when the other side closes or sends nonsense. Safe to drop at any time.
    pub async fn lost(&mut self) -> Lost {
        loop {
            match self.receive().await {
                // Nothing is awaited: a push, or an answer that came too late.
                Ok(()) => match self.take(|_| ()) {
                    Ok(_) => {}
                    Err(lost) => return lost,
                },
                Err(lost) => return lost,
            }
        }
    }

    async fn call<T>(&mut self, frame: &[u8], read: impl Fn(&Frame<'_>) -> T) -> Result<T, Lost> {
        self.stream.write_all(frame).await?;
        let opaque = self.opaque;
        let awaited = |frame: &Frame<'_>| {
            (frame.header.is_response() && frame.header.opaque == opaque).then(|| read(frame))
        };
        loop {
            while let Some(frame) = self.take(awaited)? {
                if let Some(answer) = frame {
                    return Ok(answer);
                }
            }
            self.receive().await?;
        }
    }

    /// Reads the first frame that is complete, if one is, and removes it.
    fn take<T>(&mut self, read: impl FnOnce(&Frame<'_>) -> T) -> Result<Option<T>, Lost> {
        let garbage = |error: FrameError| Lost::Garbage(error.to_string());
        let (value, consumed) = match Frame::decode(&self.received).map_err(garbage)? {
            Some((frame, consumed)) => (read(&frame), consumed),
            None if self.received.len() > NAME_SERVER_FRAME_MAX => {
                return Err(Lost::Garbage(format!("a frame of more than {NAME_SERVER_FRAME_MAX} bytes")));
            }
            None => return Ok(None),
        };
        self.received.drain(..consumed);
        Ok(Some(value))
    }

    async fn receive(&mut self) -> Result<(), Lost> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(Lost::Closed),
            _ => Ok(()),
        }
    }
}

/// An answer without the table, as of a name server that orders nothing, names no topic.
fn ordered_topics(body: &[u8]) -> Vec<String> {
    from_slice::<KvTable>(body).map_or_else(|_| Vec::new(), |body| body.table.into_keys().collect())
}
