//! Future events in the order of time; events at the same time are in the order of posting.

use schedule::{Event, Time};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

#[derive(Debug, Default)]
pub(super) struct Calendar {
    entries: BinaryHeap<Reverse<CalendarEntry>>,
    posted: u64,
}

#[derive(Debug)]
struct CalendarEntry {
    at: Time,
    number: u64,
    event: Event,
}

impl Calendar {
    pub(super) fn post(&mut self, at: Time, event: Event) {
        self.posted += 1;
        self.entries.push(Reverse(CalendarEntry { at, number: self.posted, event }));
    }

    /// Returns the time of the next event.
    pub(super) fn next(&self) -> Option<Time> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.entries.pop().map(|Reverse(entry)| entry.event)
    }
}

impl PartialEq for CalendarEntry {
    fn eq(&self, other: &CalendarEntry) -> bool {
        self.number == other.number
    }
}

impl Eq for CalendarEntry {}

impl PartialOrd for CalendarEntry {
    fn partial_cmp(&self, other: &CalendarEntry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CalendarEntry {
    fn cmp(&self, other: &CalendarEntry) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
