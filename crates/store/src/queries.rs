//! The queries of every domain, for each backend. This module has no code of its own: it lets a query and a method of the
//! store name the queries of a domain without the backend.

macro_rules! queries {
    ($backend:ident) => {
        pub(crate) use crate::api_keys::sql::$backend as api_keys;
        pub(crate) use crate::attempts::recording::$backend as recording;
        pub(crate) use crate::attempts::sql::$backend as attempt_log;
        pub(crate) use crate::attempts::totals::$backend as attempt_totals;
        pub(crate) use crate::auto_disable::sql::$backend as auto_disable;
        pub(crate) use crate::backlog::sql::$backend as backlog;
        pub(crate) use crate::crypto::master_keys::$backend as master_keys;
        pub(crate) use crate::dead_deliveries::sql::$backend as dead_deliveries;
        pub(crate) use crate::deliveries::details::$backend as delivery_details;
        pub(crate) use crate::deliveries::due::$backend as due_deliveries;
        pub(crate) use crate::deliveries::restart::$backend as restart;
        pub(crate) use crate::deliveries::sql::$backend as deliveries;
        pub(crate) use crate::events::details::$backend as event_details;
        pub(crate) use crate::events::sql::$backend as intake;
        pub(crate) use crate::idempotency::sql::$backend as idempotency;
        pub(crate) use crate::outbox::sql::$backend as outbox;
        pub(crate) use crate::partitions::sql::$backend as partitions;
        pub(crate) use crate::quarantine::sql::$backend as quarantine;
        pub(crate) use crate::replays::sql::$backend as replays;
        pub(crate) use crate::replays::steps::$backend as replay_steps;
        pub(crate) use crate::retention::sql::$backend as retention;
        pub(crate) use crate::subscriptions::disabling::$backend as subscription_disabling;
        pub(crate) use crate::subscriptions::sql::$backend as subscriptions;
        pub(crate) use crate::subscriptions::version::$backend as subscription_version;
        pub(crate) use crate::usage::sql::$backend as usage;
    };
}

pub(crate) mod postgres {
    queries!(postgres);
}

pub(crate) mod sqlite {
    queries!(sqlite);
}
