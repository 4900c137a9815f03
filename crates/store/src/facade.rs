//! The store as services see it: async, one method for each thing that is asked of it, whichever
//! home it stands in.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hookline_core::access::Access;
use hookline_core::delivery::{Cause, DeliveryState, OwedAttempt};
use hookline_core::ids::{
    DeliveryId, EventId, EventKey, KeyId, OperationId, OrganizationId, SubscriptionId, TrialKey,
};
use hookline_core::operations::WebhookDisabled;
use hookline_core::subscription::{NewSubscription, Subscription, SubscriptionPatch};
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::fanout_index::FanoutIndex;
use crate::postgres::{self, InvalidDatabaseUrl, Postgres, PostgresSettings};
use crate::records::{
    Again, AttemptRecord, Body, Created, Delivery, DeliveryQuery, DeliveryStory, EventStory, Given,
    IncomingEvent, KeyHash, KeyInfo, Listing, Loaded, LogEntry, LogQuery, NewKey, Owed, Rotated,
    Rotation, Sweep, Swept, Window,
};
use crate::sealed::Keyring;
use crate::sqlite::queue::{EmbeddedQueue, LEASE};
use crate::sqlite::{self, Sharing, Sqlite};

mod replays;

/// How far two clocks may be apart before the services warn.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// How many rows of counters a day, subscription, type and status has at most.
const WRITERS: i32 = 8;

/// Everything that Hookline remembers. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    home: Home,
    writer: i32,
    /// None until it is unlocked: who neither signs nor changes a secret needs no key.
    keyring: Option<Arc<Keyring>>,
    /// Whether who takes events in hands the first attempts on himself.
    hands_on: bool,
}

#[derive(Clone)]
enum Home {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

/// Runs a query of `queries/` in whichever home. In a SQLite home, `write` and `read` say on which
/// of its connections.
macro_rules! run {
    ($store:expr, $access:ident, |$conn:ident, $q:ident| $query:expr) => {
        match &$store.home {
            Home::Postgres(home) => {
                home.run(move |$conn| {
                    use postgres::queries as $q;
                    $query
                })
                .await
            }
            Home::Sqlite(home) => {
                home.$access(move |$conn| {
                    use sqlite::queries as $q;
                    $query
                })
                .await
            }
        }
    };
}

use run;
mod unlocking;

pub use unlocking::UnlockError;

impl Store {
    /// A home in PostgreSQL. Nothing is dialled before the first call, which like this one has to
    /// come from within a tokio runtime.
    ///
    /// # Errors
    /// When the URL asks for something that we cannot do.
    pub fn postgres(settings: &PostgresSettings) -> Result<Self, InvalidDatabaseUrl> {
        Ok(Self::of(Home::Postgres(Postgres::new(settings)?)))
    }

    /// A home in a folder that this process alone delivers from, and its queue.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be used or another process delivers from it.
    pub fn embedded(folder: &Path) -> Result<(Self, EmbeddedQueue), StoreError> {
        let home = Sqlite::open(folder, Sharing::Exclusive)?;
        Ok((
            Self::of(Home::Sqlite(home.clone())),
            EmbeddedQueue::new(home),
        ))
    }

    /// Who takes events in has the first attempts in hand then, and gives them to whoever makes
    /// them: the queue does not give them out before the lease is over.
    pub fn handing_on(mut self) -> Self {
        self.hands_on = true;
        self
    }

    /// The tables of a folder that another process may be delivering from.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be used.
    pub fn beside_embedded(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self::sqlite(Sqlite::open(folder, Sharing::Shared)?))
    }

    pub(crate) fn sqlite(home: Sqlite) -> Self {
        Self::of(Home::Sqlite(home))
    }

    fn of(home: Home) -> Self {
        let spread = uuid::Uuid::new_v4().as_u128() % u128::from(WRITERS.unsigned_abs());
        Self {
            home,
            writer: i32::try_from(spread).unwrap_or_default(),
            keyring: None,
            hands_on: false,
        }
    }

    /// Brings the schema up to date. A SQLite home does so whenever it is opened.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot.
    pub async fn migrate(&self, now: Timestamp) -> Result<(), StoreError> {
        if let Home::Postgres(home) = &self.home {
            home.run(postgres::migrate).await?;
        }
        self.prepare_days(now).await
    }

    /// Whether the store can be reached and has this version's schema.
    ///
    /// # Errors
    /// [`StoreError`] when it has not, or cannot.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        match &self.home {
            Home::Postgres(home) => home.run(postgres::check_schema).await,
            Home::Sqlite(_) => Ok(()),
        }
    }

    /// Makes room for the log of today and the days to come.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn prepare_days(&self, now: Timestamp) -> Result<(), StoreError> {
        match &self.home {
            Home::Postgres(home) => {
                home.run(move |conn| postgres::days::prepare_days(conn, now))
                    .await
            }
            Home::Sqlite(_) => Ok(()),
        }
    }

    /// Asks for the store once a second, so that [`Store::is_ready`] speaks of now, and warns when
    /// its clock is [`CLOCK_TOLERANCE`] or more from ours: receivers judge `webhook-timestamp` by
    /// the true time. Never ends by itself.
    pub async fn keep_watch(&self) {
        let Home::Postgres(home) = &self.home else {
            return std::future::pending().await;
        };
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut off = false;
        loop {
            second.tick().await;
            let Some(theirs) = home.clock().await else {
                continue;
            };
            let ours = Timestamp::from(SystemTime::now());
            let tolerance = i64::try_from(CLOCK_TOLERANCE.as_micros()).unwrap_or(i64::MAX);
            let was_off =
                std::mem::replace(&mut off, (ours.unix_micros() - theirs).abs() >= tolerance);
            if off && !was_off {
                let theirs = Timestamp::from_unix_micros(theirs);
                tracing::warn!(%ours, %theirs, "this machine's clock and the database's differ");
            }
        }
    }

    /// What is owed and seems to be lost, marked as handed on again; what was handed on too often
    /// ends as poison. In a SQLite home nothing can
    /// be: a delivery's row is its entry in the queue.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn sweep(&self, sweep: Sweep, now: Timestamp) -> Result<Swept, StoreError> {
        match &self.home {
            Home::Postgres(home) => {
                home.run(move |conn| postgres::overdue::sweep(conn, sweep, now))
                    .await
            }
            Home::Sqlite(_) => Ok(Swept::default()),
        }
    }

    /// Whether the last call reached the store.
    pub fn is_ready(&self) -> bool {
        match &self.home {
            Home::Postgres(home) => home.is_ready(),
            Home::Sqlite(home) => home.is_ready(),
        }
    }
}

#[expect(
    clippy::missing_errors_doc,
    reason = "all fail alike: the store is unavailable, or refuses"
)]
impl Store {
    /// Makes an organization; false when there is one of this id.
    pub async fn create_organization(
        &self,
        id: OrganizationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        run!(self, write, |conn, q| q::access::create_organization(
            conn, &id, now
        ))
    }

    /// Every organization and since when there is one.
    pub async fn organizations(&self) -> Result<Vec<(OrganizationId, Timestamp)>, StoreError> {
        run!(self, read, |conn, q| q::access::organizations(conn))
    }

    /// Makes a key; none when one of its organizations does not exist.
    pub async fn create_key(
        &self,
        key: NewKey,
        now: Timestamp,
    ) -> Result<Option<KeyId>, StoreError> {
        run!(self, write, |conn, q| q::access::create_key(
            conn, &key, now
        ))
    }

    /// Every key, revoked ones too.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, StoreError> {
        run!(self, read, |conn, q| q::access::keys(conn))
    }

    /// Ends a key; false when there is none, or it was ended before.
    pub async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<bool, StoreError> {
        run!(self, write, |conn, q| q::access::revoke_key(conn, id, now))
    }

    /// What a key lets its bearer do; none when it is unknown, revoked or expired.
    pub async fn access_of(
        &self,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Access>, StoreError> {
        run!(self, read, |conn, q| q::access::access_of(conn, hash, now))
    }

    /// Notes that a key was used, to the minute.
    pub async fn note_key_use(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::access::note_key_use(
            conn, id, now
        ))
    }

    /// Makes a subscription, unless its organization has `limit` already.
    pub async fn create_subscription(
        &self,
        owner: OrganizationId,
        new: NewSubscription,
        limit: u32,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let keyring = self.keyring()?;
        run!(self, write, |conn, q| {
            let edit = q::subscriptions::Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            q::subscriptions::create(conn, edit, &new, limit)
        })
    }

    /// An organization's subscriptions, newest first.
    pub async fn subscriptions(
        &self,
        owner: OrganizationId,
        window: Window,
    ) -> Result<Listing<Subscription>, StoreError> {
        run!(self, read, |conn, q| q::subscriptions::list(
            conn, &owner, window
        ))
    }

    /// One of an organization's subscriptions.
    pub async fn subscription(
        &self,
        owner: OrganizationId,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, StoreError> {
        run!(self, read, |conn, q| q::subscriptions::find(
            conn, &owner, id
        ))
    }

    /// Changes one of an organization's subscriptions.
    pub async fn change_subscription(
        &self,
        owner: OrganizationId,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        now: Timestamp,
    ) -> Result<Option<Subscription>, StoreError> {
        let keyring = self.keyring()?;
        run!(self, write, |conn, q| {
            let edit = q::subscriptions::Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            q::subscriptions::change(conn, edit, id, patch)
        })
    }

    /// Puts a secret in place of a subscription's present one, which signs, too, for a while; none
    /// when the organization has no such subscription.
    pub async fn rotate_secret(
        &self,
        owner: OrganizationId,
        id: SubscriptionId,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Option<Rotated>, StoreError> {
        let keyring = self.keyring()?;
        run!(self, write, |conn, q| {
            let edit = q::subscriptions::Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            q::subscriptions::rotate(conn, edit, id, &rotation)
        })
    }

    /// Forgets the secrets whose time after a rotation is over.
    pub async fn forget_previous_secrets(&self, now: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q| {
            q::subscriptions::forget_previous_secrets(conn, now)
        })
    }

    /// Deletes one of an organization's subscriptions; false when there is none.
    pub async fn delete_subscription(
        &self,
        owner: OrganizationId,
        id: SubscriptionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        run!(self, write, |conn, q| q::subscriptions::delete(
            conn, &owner, id, now
        ))
    }

    /// A part of the log.
    pub async fn log(&self, query: LogQuery) -> Result<Listing<LogEntry>, StoreError> {
        run!(self, read, |conn, q| q::log::page(conn, &query))
    }

    /// A part of a subscription's deliveries, newest first.
    pub async fn deliveries(&self, query: DeliveryQuery) -> Result<Listing<Delivery>, StoreError> {
        run!(self, read, |conn, q| q::deliveries::page(conn, &query))
    }

    /// One of an organization's deliveries with its attempts.
    pub async fn delivery(
        &self,
        owner: OrganizationId,
        id: DeliveryId,
    ) -> Result<Option<DeliveryStory>, StoreError> {
        run!(self, read, |conn, q| q::deliveries::find(conn, &owner, id))
    }

    /// One of an organization's events, and what became of it.
    pub async fn event(
        &self,
        owner: OrganizationId,
        id: EventId,
    ) -> Result<Option<EventStory>, StoreError> {
        run!(self, read, |conn, q| q::event_story::find(
            conn, &owner, &id
        ))
    }

    /// Makes a test event and its delivery to one subscription; none when there is no such one in
    /// the event's organization.
    pub async fn create_test(
        &self,
        id: SubscriptionId,
        event: IncomingEvent,
        now: Timestamp,
    ) -> Result<Option<OwedAttempt>, StoreError> {
        run!(self, write, |conn, q| q::intake::create_test(
            conn, id, &event, now
        ))
    }

    /// Takes events in and fans them out, in one transaction.
    pub async fn take_in(
        &self,
        index: &FanoutIndex,
        events: Arc<[IncomingEvent]>,
        now: Timestamp,
    ) -> Result<Given, StoreError> {
        let index = index.clone();
        match &self.home {
            Home::Postgres(home) => {
                home.run(move |conn| {
                    postgres::queries::intake::take_in(conn, &index, &events, now, None)
                })
                .await
            }
            Home::Sqlite(home) => {
                let asked = home.clone();
                let lease = self.hands_on.then(|| now.after(LEASE));
                home.write(move |conn| {
                    index.believe(asked.failures());
                    sqlite::queries::intake::take_in(conn, &index, &events, now, lease)
                })
                .await
            }
        }
    }

    /// How many bytes of events are kept of an organization.
    pub async fn stored_bytes(&self, owner: OrganizationId) -> Result<u64, StoreError> {
        run!(self, read, |conn, q| q::stored::of(conn, &owner))
    }

    /// The organizations of which so many bytes of events are kept, or more.
    pub async fn stored_at_least(&self, bytes: u64) -> Result<HashSet<OrganizationId>, StoreError> {
        run!(self, read, |conn, q| q::stored::at_least(conn, bytes))
    }

    /// What is known of these deliveries; one that is not there is not in the answer.
    pub async fn owed(
        &self,
        ids: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, Owed>, StoreError> {
        run!(self, read, |conn, q| q::progress::load(conn, &ids))
    }

    /// The same, with the bodies of the events of those that want one.
    pub async fn owed_with_bodies(
        &self,
        ids: Vec<DeliveryId>,
        wants_body: impl Fn(&Owed) -> bool + Send + 'static,
    ) -> Result<Loaded, StoreError> {
        run!(self, read, |conn, q| q::progress::load_with_bodies(
            conn, &ids, wants_body
        ))
    }

    /// The bodies of these events.
    pub async fn bodies(&self, keys: Vec<EventKey>) -> Result<HashMap<EventKey, Body>, StoreError> {
        run!(self, read, |conn, q| q::progress::bodies(conn, &keys))
    }

    /// Moves deliveries on and logs their attempts, where nobody has done so; answers with those
    /// that moved. A delivery is there once at most.
    pub async fn record(
        &self,
        records: Arc<[AttemptRecord]>,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        let writer = self.writer;
        run!(self, write, |conn, q| q::progress::record(
            conn, &records, writer
        ))
    }

    /// Ends deliveries without an attempt, where they are still pending and nobody has started
    /// them again since.
    pub async fn end(&self, owed: Vec<OwedAttempt>, end: DeliveryState) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::progress::end(conn, &owed, end))
    }

    /// Starts a finished delivery again, of any organization without an `owner`: its attempts go
    /// on counting, the schedule begins anew. Whoever asks hands the answer's attempt on.
    pub async fn start_again(
        &self,
        owner: Option<OrganizationId>,
        id: DeliveryId,
        cause: Cause,
        now: Timestamp,
    ) -> Result<Again, StoreError> {
        run!(self, write, |conn, q| q::again::start(
            conn,
            owner.as_ref(),
            id,
            cause,
            now
        ))
    }

    /// Puts deliveries off, each until then, where they are still pending; it uses up no attempt.
    pub async fn park(&self, parked: Vec<(DeliveryId, Timestamp)>) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::progress::park(conn, &parked))
    }

    /// Switches off some subscriptions that had an exhausted delivery and whose every attempt has
    /// failed for so long, and answers with how many it looked at; 0 means that there are no more.
    pub async fn disable_failing(
        &self,
        failing_for: Duration,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::failing::disable_failing(
            conn,
            now.before(failing_for),
            now
        ))
    }

    /// Makes deliveries due that were put off before their first attempt, and returns what is owed:
    /// some of them, as far as they are among the next that are due later. The messages that are to
    /// bring them back find nothing to do.
    pub async fn call_back(
        &self,
        subscription: SubscriptionId,
        count: u32,
        now: Timestamp,
    ) -> Result<Vec<OwedAttempt>, StoreError> {
        run!(self, write, |conn, q| q::progress::call_back(
            conn,
            subscription,
            count,
            now
        ))
    }

    /// Some subscriptions that were switched off and that operators were not told of, oldest first.
    pub async fn untold(&self) -> Result<Vec<WebhookDisabled>, StoreError> {
        run!(self, read, |conn, q| q::operations::untold(conn))
    }

    /// Operators were told of these.
    pub async fn told(&self, ids: Vec<OperationId>) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::operations::forget(conn, &ids))
    }

    /// How often each of these messages was charged with the end of a process; who never was is not
    /// in the answer.
    pub async fn charges(&self, keys: Vec<TrialKey>) -> Result<HashMap<TrialKey, u32>, StoreError> {
        run!(self, read, |conn, q| q::trials::charges(conn, &keys))
    }

    /// Charges each of these messages with the end of a process, until [`Store::end_trials`].
    pub async fn begin_trials(
        &self,
        keys: Vec<TrialKey>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::trials::begin(conn, &keys, now))
    }

    /// Takes all charges against these messages back: the process lives on.
    pub async fn end_trials(&self, keys: Vec<TrialKey>) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::trials::end(conn, &keys))
    }

    /// Forgets charges from before `cutoff`.
    pub async fn forget_trials(&self, cutoff: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::trials::forget(conn, cutoff))
    }

    /// Forgets attempts of days before `day` (days since 1970).
    pub async fn forget_attempts(&self, day: i64) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::retention::forget_attempts(
            conn, day
        ))
    }

    /// Forgets some events received before `cutoff`, and answers with how many.
    pub async fn forget_events(&self, cutoff: Timestamp) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::retention::forget_events(
            conn, cutoff
        ))
    }
}
