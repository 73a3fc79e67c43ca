//! The header of a frame, in either codec.

use std::fmt;

use crate::fields::Fields;
use crate::json_scan::{Scanner, Value};
use crate::language::Language;
use crate::request_code::RequestCode;
use crate::response_code::ResponseCode;
use crate::text::Text;

/// How a header is encoded. Each side chooses for itself; a receiver goes by the frame's codec byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    #[default]
    Json,
    /// Called ROCKETMQ by the Java clients.
    Binary,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Json => "JSON",
            Codec::Binary => "binary",
        })
    }
}

pub(crate) const FLAG_RESPONSE: i32 = 1;
pub(crate) const FLAG_ONEWAY: i32 = 2;

#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    pub codec: Codec,
    /// A request or a response code, as [`Header::is_response`] tells.
    pub code: i32,
    pub language: Language,
    pub version: i32,
    /// Correlates a response with its request; may be negative.
    pub opaque: i32,
    pub flag: i32,
    pub remark: Option<Text<'a>>,
    pub fields: Fields<'a>,
}

impl<'a> Header<'a> {
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Whoever sent this does not want an answer, not even an error.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// The code of a request. The binary codec keeps 16 bits of it; the POP codes are restored from those, which
    /// nothing else uses.
    pub fn request_code(&self) -> RequestCode {
        match self.codec {
            Codec::Json => RequestCode(self.code),
            Codec::Binary => RequestCode::from_low_bits(self.code as i16),
        }
    }

    pub fn response_code(&self) -> ResponseCode {
        ResponseCode(self.code)
    }

    #[inline(always)]
    pub(crate) fn decode(codec: Codec, bytes: &'a [u8]) -> Result<Self, &'static str> {
        match codec {
            Codec::Json => Self::decode_json(bytes),
            Codec::Binary => Self::decode_binary(bytes),
        }
    }

    fn empty(codec: Codec) -> Self {
        Header {
            codec,
            code: 0,
            language: Language::JAVA,
            version: 0,
            opaque: 0,
            flag: 0,
            remark: None,
            fields: Fields::default(),
        }
    }

    #[inline(always)]
    fn decode_json(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut header = Self::empty(Codec::Json);
        let mut scanner = Scanner::new(bytes);
        scanner.enter_object().map_err(|_| "no object")?;
        while let Some(key) = header.skip_usual_members(&mut scanner)? {
            let member = Member::named(key);
            if member == Member::ExtFields {
                header.fields = Fields::walk(&mut scanner).map_err(|_| "extFields is no object")?;
                continue;
            }
            let value = match (scanner.value().map_err(|_| "no value")?, member) {
                (_, Member::Unknown) | (Value::Null, _) => continue,
                (Value::Text(text), _) => text,
                (Value::Object(_) | Value::Array(_), _) => return Err("a member is not plain"),
            };
            match member {
                Member::Code => header.code = value.parse_i32().map_err(|_| "code is no number")?,
                Member::Flag => header.flag = value.parse_i32().map_err(|_| "flag is no number")?,
                Member::Opaque => header.opaque = value.parse_i32().map_err(|_| "opaque is no number")?,
                Member::Version => header.version = value.parse_i32().map_err(|_| "version is no number")?,
                Member::Language => header.language = Language::parse(value),
                Member::Remark => header.remark = Some(value),
                Member::ExtFields | Member::Unknown => {}
            }
        }
        if scanner.at_end() { Ok(header) } else { Err("text after the object") }
    }

    /// Takes in members that stand as Java writes them, by comparing them with what they should be; returns the
    /// key of the first that does not, or `None` at the end of the object.
    #[inline(always)]
    fn skip_usual_members(&mut self, scanner: &mut Scanner<'a>) -> Result<Option<Text<'a>>, &'static str> {
        if scanner.accept(b"\"code\":") {
            match scanner.accept_i32() {
                Some(code) => self.code = code,
                None => return Ok(Some(Text::new("code"))),
            }
            if scanner.accept(b",\"extFields\":") {
                self.fields = Fields::walk(scanner).map_err(|_| "extFields is no object")?;
            }
            if scanner.accept(b",\"flag\":") {
                match scanner.accept_i32() {
                    Some(flag) => self.flag = flag,
                    None => return Ok(Some(Text::new("flag"))),
                }
            }
            scanner.accept(b",\"language\":\"JAVA\"");
            if scanner.accept(b",\"opaque\":") {
                match scanner.accept_i32() {
                    Some(opaque) => self.opaque = opaque,
                    None => return Ok(Some(Text::new("opaque"))),
                }
            }
            scanner.accept(b",\"serializeTypeCurrentRPC\":\"JSON\"");
            if scanner.accept(b",\"version\":") {
                match scanner.accept_i32() {
                    Some(version) => self.version = version,
                    None => return Ok(Some(Text::new("version"))),
                }
            }
        }
        scanner.key().map_err(|_| "no key")
    }

    fn decode_binary(bytes: &'a [u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "too short";
        let (fixed, rest) = bytes.split_first_chunk::<13>().ok_or(SHORT)?;
        let [c0, c1, language, v0, v1, o0, o1, o2, o3, f0, f1, f2, f3] = *fixed;
        let (remark, rest) = split_section(rest).ok_or("remark leads out of the header")?;
        // Java writes the ext length also when it is zero; what follows the section is ignored there and here.
        let (ext, _) = split_section(rest).ok_or("ext fields lead out of the header")?;
        Ok(Header {
            codec: Codec::Binary,
            code: i32::from(i16::from_be_bytes([c0, c1])),
            language: Language(language),
            version: i32::from(i16::from_be_bytes([v0, v1])),
            opaque: i32::from_be_bytes([o0, o1, o2, o3]),
            flag: i32::from_be_bytes([f0, f1, f2, f3]),
            remark: (!remark.is_empty()).then_some(Text::plain(remark)),
            fields: Fields::binary(ext).ok_or("an ext field leads out of the header")?,
        })
    }
}

/// Splits off what a 32-bit length word announces.
fn split_section(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(i32::from_be_bytes(*len)).ok()?)
}

#[derive(Clone, Copy, PartialEq)]
enum Member {
    Code,
    ExtFields,
    Flag,
    Language,
    Opaque,
    Remark,
    Version,
    Unknown,
}

impl Member {
    fn named(key: Text<'_>) -> Self {
        match key.as_plain() {
            Some(b"code") => Member::Code,
            Some(b"extFields") => Member::ExtFields,
            Some(b"flag") => Member::Flag,
            Some(b"language") => Member::Language,
            Some(b"opaque") => Member::Opaque,
            Some(b"remark") => Member::Remark,
            Some(b"version") => Member::Version,
            Some(b"serializeTypeCurrentRPC") => Member::Unknown,
            _ => Self::resembling(key),
        }
    }

    /// Java's reader ignores case and underscores where the exact name does not match.
    #[cold]
    fn resembling(key: Text<'_>) -> Self {
        let key = key.cow();
        let like = |name: &str| {
            let letters = key.bytes().filter(|&byte| byte != b'_').map(|byte| byte.to_ascii_lowercase());
            letters.eq(name.bytes())
        };
        [
            ("code", Member::Code),
            ("extfields", Member::ExtFields),
            ("flag", Member::Flag),
            ("language", Member::Language),
            ("opaque", Member::Opaque),
            ("remark", Member::Remark),
            ("version", Member::Version),
        ]
        .into_iter()
        .find(|(name, _)| like(name))
        .map_or(Member::Unknown, |(_, member)| member)
    }
}
