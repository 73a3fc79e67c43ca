//! Tags codes: what a broker compares instead of tags.

/// Java's `String.hashCode`: over UTF-16 units, wrapping.
pub fn java_hash(text: &str) -> i32 {
    if text.is_ascii() {
        return text.bytes().fold(0, |hash, byte| step(hash, i32::from(byte)));
    }
    text.encode_utf16().fold(0, |hash, unit| step(hash, i32::from(unit)))
}

/// The code of a message's TAGS property as a consume queue keeps it; 0 when there is none.
pub fn tags_code(tags: Option<&str>) -> i64 {
    tags.map_or(0, |tags| i64::from(java_hash(tags)))
}

fn step(hash: i32, unit: i32) -> i32 {
    hash.wrapping_mul(31).wrapping_add(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        for (text, hash) in [
            ("", 0),
            ("A", 65),
            ("TagA", 2598919),
            ("TagB", 2598920),
            ("order", 106006350),
            ("中文", 646394),
            ("😀", 1772899),
        ] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
        assert_eq!(tags_code(None), 0);
        assert!(java_hash("polygenelubricants") == i32::MIN, "wraps like Java");
    }
}
