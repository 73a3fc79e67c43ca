//! How far the log is, in five senses.
//!
//! Invariant: `durable <= written <= appended`, `kept <= appended`, and what is acknowledged is written or kept.
//! None ever goes back.

use std::cell::Cell;

use crate::offset::LogPosition;

pub(crate) struct Watermarks {
    appended: Cell<LogPosition>,
    written: Cell<LogPosition>,
    durable: Cell<LogPosition>,
    /// In memory that outlives the process, as far as it is not written.
    kept: Cell<LogPosition>,
    acknowledged: Cell<LogPosition>,
}

impl Watermarks {
    pub fn new(at: LogPosition) -> Self {
        Self {
            appended: Cell::new(at),
            written: Cell::new(at),
            durable: Cell::new(at),
            kept: Cell::new(at),
            acknowledged: Cell::new(at),
        }
    }

    pub fn appended(&self) -> LogPosition {
        self.appended.get()
    }

    pub fn written(&self) -> LogPosition {
        self.written.get()
    }

    pub fn durable(&self) -> LogPosition {
        self.durable.get()
    }

    pub fn acknowledged(&self) -> LogPosition {
        self.acknowledged.get()
    }

    pub fn advance_appended(&self, to: LogPosition) {
        assert!(self.appended.replace(to) <= to, "appended went back");
    }

    pub fn advance_written(&self, to: LogPosition) {
        assert!(self.written.replace(to) <= to, "written went back");
        assert!(to <= self.appended.get(), "written passed appended");
    }

    pub fn advance_durable(&self, to: LogPosition) {
        assert!(self.durable.replace(to) <= to, "durable went back");
        assert!(to <= self.written.get(), "durable passed written");
    }

    pub fn advance_kept(&self, to: LogPosition) {
        assert!(self.kept.replace(to) <= to, "kept went back");
        assert!(to <= self.appended.get(), "kept passed appended");
    }

    pub fn advance_acknowledged(&self, to: LogPosition) {
        assert!(self.acknowledged.replace(to) <= to, "acknowledged went back");
        assert!(to <= self.written.get().max(self.kept.get()), "acknowledged passed written and kept");
    }
}
