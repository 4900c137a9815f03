//! Sentences about the whole system
