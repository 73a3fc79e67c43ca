//! The part of a send's answer that a load looks at, read without copying.

use rmq_protocol::Frame;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendAnswer<'a> {
    pub code: i32,
    pub opaque: i32,
    pub queue: Option<u32>,
    pub offset: Option<i64>,
    frame: &'a [u8],
}

impl<'a> SendAnswer<'a> {
    /// `Ok(None)`: a request of the server, which a load does not serve.
    pub fn read(frame: &'a [u8]) -> Result<Option<Self>, rmq_protocol::FrameError> {
        let Some((decoded, _)) = Frame::decode(frame)? else { return Ok(None) };
        if !decoded.header.is_response() {
            return Ok(None);
        }
        let mut answer = Self {
            code: decoded.header.code,
            opaque: decoded.header.opaque,
            queue: None,
            offset: None,
            frame,
        };
        for (key, value) in decoded.header.fields.iter() {
            match key.as_plain() {
                Some(b"queueOffset") => answer.offset = value.parse_i64().ok(),
                Some(b"queueId") => {
                    answer.queue = value.parse_i32().ok().and_then(|id| u32::try_from(id).ok())
                }
                _ => {}
            }
        }
        Ok(Some(answer))
    }

    /// Another field of the answer, which is searched anew.
    pub fn field(&self, name: &str) -> Option<String> {
        let (decoded, _) = Frame::decode(self.frame).ok()??;
        decoded.header.fields.find(name).map(|value| value.cow().into_owned())
    }

    /// What the server says about it; asked for only when something is new.
    pub fn remark(&self) -> String {
        match Frame::decode(self.frame) {
            Ok(Some((decoded, _))) => {
                decoded.header.remark.map_or(String::new(), |text| text.cow().into_owned())
            }
            _ => String::new(),
        }
    }
}
