//! Search for separators in texts that are too short for the set-up of a general vector search to pay.

const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Positions of double quotes and backslashes.
///
/// One search per string is a chain of dependent loads. Marking a whole block first and then walking its bits is
/// three times as fast on the short strings of headers.
pub(crate) struct Marks<'a> {
    input: &'a [u8],
    /// Where the marked block begins.
    block: usize,
    /// Bit n is set if byte `block + n` is a mark.
    bits: u64,
}

const BLOCK_LEN: usize = 64;

impl<'a> Marks<'a> {
    #[inline]
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { input, block: 0, bits: block_bits(input) }
    }

    /// First mark at or after `from`.
    #[inline(always)]
    pub(crate) fn next(&mut self, mut from: usize) -> Option<usize> {
        loop {
            // Wraps, and so leaves the block, for a position before it.
            let offset = from.wrapping_sub(self.block);
            if offset < BLOCK_LEN {
                let bits = self.bits & (u64::MAX << offset);
                if bits != 0 {
                    return Some(self.block + bits.trailing_zeros() as usize);
                }
                from = self.block + BLOCK_LEN;
            }
            let rest = self.input.get(from..)?;
            if rest.is_empty() {
                return None;
            }
            self.block = from;
            self.bits = block_bits(rest);
        }
    }
}

/// Marks the first block of `rest`.
#[inline]
fn block_bits(rest: &[u8]) -> u64 {
    match rest.first_chunk() {
        Some(block) => full_block_bits(block),
        None => {
            let mut block = [0; BLOCK_LEN];
            block[..rest.len()].copy_from_slice(rest);
            full_block_bits(&block)
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn full_block_bits(block: &[u8; BLOCK_LEN]) -> u64 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    let mut bits = 0;
    for (at, part) in block.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: SSE2 belongs to every x86-64, and the unaligned load reads the sixteen bytes of the part.
        let part = unsafe {
            let part = _mm_loadu_si128(part.as_ptr().cast());
            let quotes = _mm_cmpeq_epi8(part, _mm_set1_epi8(b'"' as i8));
            let backslashes = _mm_cmpeq_epi8(part, _mm_set1_epi8(b'\\' as i8));
            _mm_movemask_epi8(_mm_or_si128(quotes, backslashes))
        };
        bits |= u64::from(part as u32) << (16 * at);
    }
    bits
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn full_block_bits(block: &[u8; BLOCK_LEN]) -> u64 {
    let mark = |bits: u64, (at, byte): (usize, &u8)| bits | u64::from(matches!(byte, b'"' | b'\\')) << at;
    block.iter().enumerate().fold(0, mark)
}

/// First position at or after `from` that holds `a` or `b`.
#[inline(always)]
pub(crate) fn find_either(input: &[u8], from: usize, a: u8, b: u8) -> Option<usize> {
    let mut at = from;
    let (all_a, all_b) = (LOW_BITS * u64::from(a), LOW_BITS * u64::from(b));
    while let Some(word) = input.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        // A borrow can raise false hits, but only above a true one, so the lowest is right.
        let hits = zero_bytes(word ^ all_a) | zero_bytes(word ^ all_b);
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    input.get(at..)?.iter().position(|&byte| byte == a || byte == b).map(|offset| at + offset)
}

#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & HIGH_BITS
}

/// Not zero if a byte is a control character, a double quote, a backslash or not ASCII.
#[inline]
pub(crate) fn special_bytes(word: u64) -> u64 {
    let control = word.wrapping_sub(LOW_BITS * 0x20) & !word & HIGH_BITS;
    let marks = zero_bytes(word ^ (LOW_BITS * b'"' as u64)) | zero_bytes(word ^ (LOW_BITS * b'\\' as u64));
    control | marks | word & HIGH_BITS
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

    #[test]
    fn marks_are_found_from_any_position() {
        let mut input = [b'x'; 200];
        for at in [0, 1, 15, 16, 63, 64, 65, 127, 140, 199] {
            input[at] = if at % 2 == 0 { b'"' } else { b'\\' };
        }
        for len in 0..=input.len() {
            let input = &input[..len];
            let expected = |from| (from..len).find(|&at| input[at] != b'x');
            for from in 0..len + 70 {
                assert_eq!(Marks::new(input).next(from), expected(from), "{from} of {len}");
            }
            let mut marks = Marks::new(input);
            for from in (0..len).chain((0..len).rev()) {
                assert_eq!(marks.next(from), expected(from), "{from} of {len}, moving");
            }
        }
    }
}
