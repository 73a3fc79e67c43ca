//! A value that is read everywhere and may be replaced while the broker runs.
//!
//! Readers pay one load and keep their plain references; in return a replaced value stays in memory. Whoever
//! replaces values bounds how often (`control::limits::CONFIG_CHANGES_MAX`).

use std::cell::Cell;
use std::ops::Deref;

pub struct Live<T: 'static>(Cell<&'static T>);

impl<T> Live<T> {
    pub fn new(value: &'static T) -> Self {
        Self(Cell::new(value))
    }

    pub fn replace(&self, value: &'static T) {
        self.0.set(value);
    }
}

impl<T> Deref for Live<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_outlives_the_replacement() {
        let live = Live::new(&1);
        let before: &i32 = &live;
        live.replace(&2);
        assert_eq!((*before, *live), (1, 2));
    }
}
