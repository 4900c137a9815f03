//! From published events to owed deliveries
