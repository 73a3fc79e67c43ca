//! Search for separators, eight bytes at a time: what headers and properties hold is too short for a vector
//! search's set-up to pay.

const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// First position at or after `from` that holds `a` or `b`.
#[inline]
pub(crate) fn find_either(input: &[u8], from: usize, a: u8, b: u8) -> Option<usize> {
    let mut at = from;
    let (all_a, all_b) = (LOW_BITS * u64::from(a), LOW_BITS * u64::from(b));
    let rest = input.get(from..)?;
    let mut words = rest.chunks_exact(8);
    for word in &mut words {
        let word =
            u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
        // A borrow can raise false hits, but only above a true one, so the lowest is right.
        let hits = zero_bytes(word ^ all_a) | zero_bytes(word ^ all_b);
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    words.remainder().iter().position(|&byte| byte == a || byte == b).map(|offset| at + offset)
}

#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_of_two_bytes() {
        for len in 0..40 {
            for at in 0..len {
                let mut input = vec![0x80u8; len];
                input[at] = b'"';
                if at + 1 < len {
                    input[at + 1] = b'"' ^ 1;
                }
                for from in 0..=len {
                    let expected = (from <= at).then_some(at);
                    assert_eq!(find_either(&input, from, b'"', b'\\'), expected);
                }
            }
        }
        assert_eq!(find_either(b"ab", 3, b'a', b'b'), None);
    }
}
