//! Dead letters that a command is about.

use clap::ValueEnum;

use crate::dead_letters::terminal_escape::escaped;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DeadLetterKind {
    /// Events that were published and rejected
    Event,
    /// Deliveries that could not be handled
    Delivery,
}

impl DeadLetterKind {
    /// Deliveries come first: the store finds an id at once, while a queue of RabbitMQ has to be searched.
    const ALL: [Self; 2] = [Self::Delivery, Self::Event];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Delivery => "delivery",
        }
    }

    /// `only`, or every kind.
    pub(super) fn filtered(only: Option<Self>) -> &'static [Self] {
        match only {
            None => &Self::ALL,
            Some(Self::Delivery) => &Self::ALL[..1],
            Some(Self::Event) => &Self::ALL[1..],
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Selection {
    One(String),
    All(Option<DeadLetterKind>),
}

impl Selection {
    pub(super) fn kinds(&self) -> &'static [DeadLetterKind] {
        match self {
            Self::One(_) => &DeadLetterKind::ALL,
            Self::All(only) => DeadLetterKind::filtered(*only),
        }
    }

    /// An id may also be given as a list shows it, with escapes.
    pub(super) fn has(&self, id: &str) -> bool {
        match self {
            Self::One(wanted) => id == wanted || escaped(id) == *wanted,
            Self::All(_) => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Redrive,
    Drop,
}
