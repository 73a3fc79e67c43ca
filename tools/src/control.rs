//! One question at a time to a name server or broker: routes, topics, offsets. The load has its own connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rmq_protocol::{Codec, Frame, FrameWriter, RequestCode, frame_len};

use crate::error::Error;
use crate::meaning;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Control {
    peer: &'static str,
    address: SocketAddr,
    stream: TcpStream,
    opaque: i32,
}

/// An answer that outlives the buffer it came in.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub version: i32,
    pub remark: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Control {
    pub fn connect(peer: &'static str, address: SocketAddr, timeout: Duration) -> Result<Self, Error> {
        let unreachable = |source| Error::Unreachable { peer, address: address.to_string(), source };
        let stream = TcpStream::connect_timeout(&address, timeout).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_read_timeout(Some(CALL_TIMEOUT)).map_err(unreachable)?;
        stream.set_write_timeout(Some(CALL_TIMEOUT)).map_err(unreachable)?;
        Ok(Self { peer, address, stream, opaque: 0 })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks, and takes any answer.
    pub fn ask(&mut self, code: RequestCode, fields: &[(&'static str, &str)]) -> Result<Answer, Error> {
        self.opaque += 1;
        let mut request = Vec::new();
        let mut writer = FrameWriter::request(&mut request, Codec::Json, code, self.opaque, false);
        for (name, value) in fields {
            writer = writer.field(name, value);
        }
        writer.finish();
        self.exchange(&request, code)
    }

    /// Asks, and takes only success for an answer.
    pub fn call(&mut self, code: RequestCode, fields: &[(&'static str, &str)]) -> Result<Answer, Error> {
        let answer = self.ask(code, fields)?;
        if answer.code == 0 { Ok(answer) } else { Err(self.refused(code, &answer)) }
    }

    pub fn refused(&self, code: RequestCode, answer: &Answer) -> Error {
        Error::Refused {
            address: self.address,
            request: code.name().unwrap_or("request"),
            code: answer.code,
            name: meaning::name(answer.code),
            meaning: meaning::meaning(answer.code),
            remark: if answer.remark.is_empty() { String::new() } else { format!(": {}", answer.remark) },
        }
    }

    fn exchange(&mut self, request: &[u8], code: RequestCode) -> Result<Answer, Error> {
        let unreachable =
            |source| Error::Unreachable { peer: self.peer, address: self.address.to_string(), source };
        let malformed = |what: String| Error::Malformed {
            address: self.address,
            request: code.name().unwrap_or("request"),
            what,
        };
        self.stream.write_all(request).map_err(unreachable)?;
        let mut buffer = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            while let Some(length) = frame_len(&buffer).map_err(|error| malformed(error.to_string()))? {
                if buffer.len() < length {
                    break;
                }
                let decoded =
                    Frame::decode(&buffer[..length]).map_err(|error| malformed(error.to_string()))?;
                // A server may send requests of its own here; they are not for us.
                if let Some((frame, _)) = decoded
                    && frame.header.is_response()
                    && frame.header.opaque == self.opaque
                {
                    return Ok(owned(&frame));
                }
                buffer.drain(..length);
            }
            match self.stream.read(&mut chunk).map_err(unreachable)? {
                0 => return Err(unreachable(std::io::ErrorKind::UnexpectedEof.into())),
                count => buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

fn owned(frame: &Frame<'_>) -> Answer {
    Answer {
        code: frame.header.code,
        version: frame.header.version,
        remark: frame.header.remark.map_or(String::new(), |remark| remark.cow().into_owned()),
        fields: frame
            .header
            .fields
            .iter()
            .map(|(key, value)| (key.cow().into_owned(), value.cow().into_owned()))
            .collect(),
        body: frame.body.to_vec(),
    }
}
