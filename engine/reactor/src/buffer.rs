//! Memory that direct I/O accepts, used again rather than given back: fresh pages cost more than the copy.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::BLOCK_BYTES;

/// Whole blocks of memory, aligned to one. A new one holds what its last user left.
pub struct AlignedBuffer {
    memory: NonNull<u8>,
    len: usize,
    capacity: usize,
}

/// Free buffers up to this size are kept, one list for each power of two blocks.
const KEPT_BYTES_MAX: usize = 4 << 20;
const SIZES: usize = (KEPT_BYTES_MAX / BLOCK_BYTES).trailing_zeros() as usize + 1;
/// What a thread keeps of free buffers.
const FREE_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(KEPT_BYTES_MAX.is_power_of_two() && BLOCK_BYTES.is_power_of_two());
const _: () = assert!(FREE_BYTES_MAX >= 2 * KEPT_BYTES_MAX);

#[derive(Default)]
struct Free {
    lists: [Vec<NonNull<u8>>; SIZES],
    bytes: usize,
}

thread_local! {
    static FREE: RefCell<Free> = RefCell::default();
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BLOCK_BYTES).expect("a buffer smaller than half the address space")
}

fn list_of(capacity: usize) -> usize {
    (capacity / BLOCK_BYTES).trailing_zeros() as usize
}

impl AlignedBuffer {
    /// `len` is rounded up to whole blocks.
    pub fn new(len: usize) -> Self {
        let len = len.max(1).next_multiple_of(BLOCK_BYTES);
        let capacity = if len <= KEPT_BYTES_MAX { len.next_power_of_two() } else { len };
        if capacity <= KEPT_BYTES_MAX {
            let found = FREE.with_borrow_mut(|free| {
                let found = free.lists[list_of(capacity)].pop()?;
                free.bytes -= capacity;
                Some(found)
            });
            if let Some(memory) = found {
                return Self { memory, len, capacity };
            }
        }
        let layout = layout(capacity);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        Self { memory, len, capacity }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_ptr()
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `memory` is `capacity` initialised bytes that this value alone owns.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and we are borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let kept = self.capacity <= KEPT_BYTES_MAX
            && FREE
                .try_with(|free| {
                    let mut free = free.borrow_mut();
                    let room = free.bytes + self.capacity <= FREE_BYTES_MAX;
                    if room {
                        free.bytes += self.capacity;
                        free.lists[list_of(self.capacity)].push(self.memory);
                    }
                    room
                })
                .unwrap_or(false);
        if !kept {
            // SAFETY: allocated with this layout and owned by us.
            unsafe { dealloc(self.memory.as_ptr(), layout(self.capacity)) };
        }
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        for (list, buffers) in self.lists.iter_mut().enumerate() {
            for memory in buffers.drain(..) {
                // SAFETY: each list holds buffers of this capacity, owned by it.
                unsafe { dealloc(memory.as_ptr(), layout(BLOCK_BYTES << list)) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_whole_blocks_and_come_back() {
        let first = AlignedBuffer::new(5000);
        assert_eq!(first.len(), 8192);
        assert_eq!(first.as_ptr() as usize % BLOCK_BYTES, 0);
        let place = first.as_ptr();
        drop(first);
        let mut again = AlignedBuffer::new(8192);
        assert_eq!(again.as_ptr(), place);
        again.fill(7);
        let odd = AlignedBuffer::new(12_000);
        assert_eq!(odd.len(), 12_288);
        assert!(odd.iter().all(|&byte| byte == 0), "of another list, so new");
        let large = AlignedBuffer::new(KEPT_BYTES_MAX + 1);
        assert_eq!(large.len(), KEPT_BYTES_MAX + BLOCK_BYTES);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: Vec<_> = (0..32).map(|_| AlignedBuffer::new(KEPT_BYTES_MAX)).collect();
        drop(many);
        FREE.with_borrow(|free| assert!(free.bytes <= FREE_BYTES_MAX && free.bytes > 0));
    }
}
