//! Who speaks: the peer's language and release, as headers state them.

use crate::text::Text;

/// Language of a client, by its ordinal in Java's enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Language(pub u8);

const NAMES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS",
    "RUST", "NODE_JS",
];

impl Language {
    pub const JAVA: Self = Self(0);
    pub const CPP: Self = Self(1);
    pub const DOTNET: Self = Self(2);
    pub const PYTHON: Self = Self(3);
    pub const DELPHI: Self = Self(4);
    pub const ERLANG: Self = Self(5);
    pub const RUBY: Self = Self(6);
    pub const OTHER: Self = Self(7);
    pub const HTTP: Self = Self(8);
    pub const GO: Self = Self(9);
    pub const PHP: Self = Self(10);
    pub const OMS: Self = Self(11);
    pub const RUST: Self = Self(12);
    pub const NODE_JS: Self = Self(13);
    /// A name that we do not know; it has no name of its own on the wire.
    pub const UNKNOWN: Self = Self(255);

    pub fn name(self) -> Option<&'static str> {
        NAMES.get(usize::from(self.0)).copied()
    }

    /// Reads a name in any letter case, or an ordinal.
    pub fn parse(text: Text<'_>) -> Self {
        if text.as_plain() == Some(b"JAVA") {
            return Self::JAVA;
        }
        if let Ok(ordinal) = text.parse_i32() {
            return u8::try_from(ordinal).map_or(Self::UNKNOWN, Self);
        }
        let text = text.cow();
        let ordinal = NAMES.iter().position(|name| name.eq_ignore_ascii_case(&text));
        ordinal.map_or(Self::UNKNOWN, |ordinal| Self(ordinal as u8))
    }
}

impl Default for Language {
    fn default() -> Self {
        Self::JAVA
    }
}

/// Release numbers that headers carry. Each release has two: a snapshot's and, one higher, its own.
pub mod version {
    pub const V3_0_7_SNAPSHOT: i32 = 28;
    pub const V3_0_11: i32 = 37;
    pub const V3_1_8_SNAPSHOT: i32 = 62;
    pub const V3_4_9: i32 = 121;
    pub const V4_0_0: i32 = 213;
    pub const V4_1_0_SNAPSHOT: i32 = 232;
    pub const V4_1_0: i32 = 233;
    pub const V4_9_3: i32 = 399;
    pub const V4_9_4: i32 = 401;
    pub const V5_0_0: i32 = 413;
    pub const V5_3_1: i32 = 475;
    pub const V5_3_3: i32 = 479;
    pub const HIGHER_VERSION: i32 = 612;

    /// Name of a release as Java prints it, for releases from 4.0.0 on.
    pub fn name(version: i32) -> String {
        if !(V4_0_0 - 1..HIGHER_VERSION).contains(&version) {
            return if version >= HIGHER_VERSION {
                "HIGHER_VERSION".into()
            } else {
                format!("V3 ({version})")
            };
        }
        let steps = version + 1 - V4_0_0;
        let (major, minor, patch) = (4 + steps / 200, steps % 200 / 20, steps % 20 / 2);
        let snapshot = if steps % 2 == 0 { "_SNAPSHOT" } else { "" };
        format!("V{major}_{minor}_{patch}{snapshot}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_a_name_or_an_ordinal() {
        assert_eq!(Language::parse(Text::new("node_js")), Language::NODE_JS);
        assert_eq!(Language::parse(Text::new("9")), Language::GO);
        assert_eq!(Language::parse(Text::new("KLINGON")), Language::UNKNOWN);
        assert_eq!(Language::RUST.name(), Some("RUST"));
        assert_eq!(Language::UNKNOWN.name(), None);
    }

    #[test]
    fn releases_are_named_as_java_names_them() {
        assert_eq!(version::name(version::V5_3_3), "V5_3_3");
        assert_eq!(version::name(232), "V4_1_0_SNAPSHOT");
        assert_eq!(version::name(333), "V4_6_0");
        assert_eq!(version::name(409), "V4_9_8");
        assert_eq!(version::name(493), "V5_4_0");
    }
}
