//! A vhost for each test, and a client that bypasses Hookline.

use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::try_join_all;
use hookline_core::timestamp::Timestamp;
use hookline_queue::{
    Author, Deferred, EventConsumer, PublishedEvents, Publisher, QueueError, ReceivedMessage,
};
use hookline_queue_rabbitmq::{Rabbit, RabbitSettings};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use url::Url;
use uuid::Uuid;

/// Far longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// For tests of a broker that does not answer.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Deleted when it is dropped.
pub(crate) struct Vhost {
    name: String,
    broker: Url,
}

impl Vhost {
    pub(crate) fn create() -> Self {
        let name = format!("hookline-test-{}", Uuid::new_v4());
        let broker = Url::parse(&setting("HOOKLINE_TEST_AMQP")).expect("an AMQP URL");
        let user = broker.username();
        evaluate(&format!(
            "rabbit_vhost:add(<<\"{name}\">>, <<\"test\">>), rabbit_auth_backend_internal:set_permissions(\
             <<\"{user}\">>, <<\"{name}\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>)."
        ))
        .expect("a vhost");
        Self { name, broker }
    }

    pub(crate) fn url(&self) -> Url {
        let mut url = self.broker.clone();
        url.set_path(&self.name);
        url
    }

    pub(crate) async fn connect(&self) -> Rabbit {
        connect(&self.url()).await
    }

    pub(crate) fn close_all_connections(&self) {
        rabbitmqctl(&["close_all_connections", "--vhost", &self.name, "a test"]);
    }

    /// Runs a command on this vhost.
    pub(crate) fn ctl(&self, command: &str, arguments: &[&str]) {
        let mut all = vec![command, "-p", &self.name];
        all.extend(arguments);
        rabbitmqctl(&all);
    }

    /// A user with these rights to configure, write and read. Backslashes are doubled, as in Erlang.
    pub(crate) fn user(&self, [configure, write, read]: [&str; 3]) -> VhostUser {
        let (name, vhost) = (format!("user-{}", Uuid::new_v4()), &self.name);
        evaluate(&format!(
            "rabbit_auth_backend_internal:add_user(<<\"{name}\">>, <<\"hush\">>, <<\"test\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"{name}\">>, <<\"{vhost}\">>, \
             <<\"{configure}\">>, <<\"{write}\">>, <<\"{read}\">>, <<\"test\">>)."
        ))
        .expect("a user");
        let mut url = self.url();
        url.set_username(&name).expect("a user name");
        url.set_password(Some("hush")).expect("a password");
        VhostUser { name, url }
    }

    /// Evaluates Erlang with the `Names` of the queues that dispatchers listen on, and the `Counts` of their messages.
    fn of_wake_queues(&self, what: &str) -> String {
        let vhost = &self.name;
        evaluate(&format!(
            "Queues = rabbit_amqqueue:info_all(<<\"{vhost}\">>, [name, messages]), \
             Ours = [{{binary_to_list(Name), Messages}} || [{{name, {{resource, _, _, \
             <<\"hookline.wake.dispatcher.\", _/binary>> = Name}}}}, {{messages, Messages}}] <- Queues], \
             {{Names, Counts}} = lists:unzip(Ours), {what}."
        ))
        .expect("queues")
    }

    /// The queue of the only dispatcher.
    pub(crate) fn queue_of_wake_ups(&self) -> String {
        let names = self.of_wake_queues("Names");
        let mut quoted = names.split('"').skip(1).step_by(2);
        let (first, second) = (quoted.next(), quoted.next());
        assert_eq!(second, None, "{names}");
        first.expect("a queue").to_owned()
    }

    /// Messages that dispatchers have not read.
    pub(crate) fn waiting_wake_ups(&self) -> u32 {
        let sum = self.of_wake_queues("lists:sum(Counts)");
        sum.parse().expect("a number")
    }

    /// Deletes a queue that another connection has for itself.
    pub(crate) fn delete_queue(&self, queue: &str) {
        let vhost = &self.name;
        evaluate(&format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)), \
             rabbit_amqqueue:delete(Q, false, false, <<\"test\">>)."
        ))
        .expect("a deleted queue");
    }

    /// Tells the connections of this vhost alone, in the broker's own words, that memory is short or
    /// no longer: an alarm of the whole broker would stop the other tests, too.
    pub(crate) fn alarm(&self, is_on: bool) {
        let name = &self.name;
        let all = "rabbit_networking:connection_info_all([pid, vhost])";
        evaluate(&format!(
            "[Pid ! {{conserve_resources, memory, {is_on}}} || [{{pid, Pid}}, {{vhost, V}}] <- {all}, \
             V =:= <<\"{name}\">>]."
        ))
        .expect("an alarm");
    }

    /// A channel outside of Hookline.
    pub(crate) async fn other_client(&self) -> OtherClient {
        OtherClient::at(&self.url()).await
    }
}

/// A user for one test.
pub(crate) struct VhostUser {
    name: String,
    pub(crate) url: Url,
}

impl Drop for VhostUser {
    fn drop(&mut self) {
        let name = &self.name;
        let deleted = evaluate(&format!(
            "rabbit_auth_backend_internal:delete_user(<<\"{name}\">>, <<\"test\">>)."
        ));
        assert!(deleted.is_ok() || std::thread::panicking(), "{deleted:?}");
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let name = &self.name;
        let deleted = evaluate(&format!(
            "rabbit_vhost:delete(<<\"{name}\">>, <<\"test\">>)."
        ));
        assert!(deleted.is_ok() || std::thread::panicking(), "{deleted:?}");
    }
}

/// The confirm timeout is as long as that of any other step, for a broker on a slow disk.
pub(crate) async fn connect(url: &Url) -> Rabbit {
    connect_with(url, PATIENCE).await
}

pub(crate) async fn connect_with(url: &Url, confirm_timeout: Duration) -> Rabbit {
    Rabbit::connect(RabbitSettings {
        url: url.to_string(),
        name: "test".into(),
        confirm_timeout,
    })
    .await
    .expect("connect")
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run `deploy/services start DIR`, then the tests with the variables of DIR/env"
        )
    })
}

pub(crate) fn rabbitmqctl(arguments: &[&str]) {
    let ran = Command::new(setting("HOOKLINE_TEST_RABBITMQCTL"))
        .arg("--quiet")
        .args(arguments)
        .output()
        .expect("rabbitmqctl");
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{arguments:?}: {stderr}");
}

/// Evaluates Erlang in the broker, and returns the value as Erlang prints it.
pub(crate) fn evaluate(expression: &str) -> Result<String, String> {
    let output = Command::new(setting("HOOKLINE_TEST_RABBITMQ_EVAL"))
        .arg(expression)
        .output()
        .map_err(|error| error.to_string())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let answer = String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => Ok(answer.trim().to_owned()),
        false => Err(format!("{expression}: {stderr}")),
    }
}

/// A client that does not belong to Hookline.
pub(crate) struct OtherClient {
    pub(crate) channel: Channel,
    _connection: Connection,
}

/// A message as another client sees it.
pub(crate) struct Seen {
    pub(crate) body: Vec<u8>,
    pub(crate) properties: BasicProperties,
}

impl OtherClient {
    pub(crate) async fn at(url: &Url) -> Self {
        let connection = Connection::connect(url.as_str(), ConnectionProperties::default())
            .await
            .expect("connect");
        let channel = connection.create_channel().await.expect("channel");
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.expect("confirms");
        Self {
            channel,
            _connection: connection,
        }
    }

    /// Returns once it is confirmed: what a connection has published and not heard of can be lost with it.
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        with: BasicProperties,
    ) {
        let options = BasicPublishOptions::default();
        let published = self
            .channel
            .basic_publish(exchange.into(), key.into(), options, body, with)
            .await
            .expect("publish");
        within_patience(published).await.expect("confirm");
    }

    /// Messages in a queue that no consumer holds; none where it does not exist, and the channel is closed
    /// then.
    pub(crate) async fn count(&self, queue: &str) -> Option<u32> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let declared = self
            .channel
            .queue_declare(queue.into(), passive, FieldTable::default());
        declared.await.ok().map(|queue| queue.message_count())
    }

    /// Takes a message off the queue, as soon as there is one.
    pub(crate) async fn get(&self, queue: &str) -> Seen {
        within_patience(async {
            loop {
                let options = BasicGetOptions { no_ack: true };
                let got = self.channel.basic_get(queue.into(), options).await;
                if let Some(message) = got.expect("get") {
                    return Seen {
                        body: message.delivery.data,
                        properties: message.delivery.properties,
                    };
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            other => panic!("{name} is {other:?}"),
        }
    }
}

pub(crate) async fn within_patience<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it takes too long")
}

/// Receives `count` messages.
pub(crate) async fn receive_all(
    consumer: &Arc<dyn EventConsumer>,
    count: usize,
) -> Vec<ReceivedMessage<PublishedEvents>> {
    let mut all = Vec::new();
    within_patience(async {
        while all.len() < count {
            all.extend(consumer.receive(count).await);
        }
    })
    .await;
    all
}

pub(crate) async fn receive_one(
    consumer: &Arc<dyn EventConsumer>,
) -> ReceivedMessage<PublishedEvents> {
    let mut batch = within_patience(consumer.receive(1)).await;
    batch.pop().expect("a message")
}

/// Waits until the condition holds.
pub(crate) async fn eventually(holds: impl AsyncFn() -> bool) {
    within_patience(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A message that is identified by its number.
pub(crate) fn numbered(number: u32) -> PublishedEvents {
    PublishedEvents {
        body: number.to_string().into(),
        content_type: Some("application/json".into()),
        author: Author::Hookline,
        trace: None,
        due: None,
    }
}

pub(crate) fn number_of(received: &ReceivedMessage<PublishedEvents>) -> u32 {
    let body = std::str::from_utf8(&received.message.body).expect("text");
    body.parse().expect("a number")
}

/// Publishes messages, in any order.
pub(crate) async fn publish(
    publisher: &Arc<dyn Publisher>,
    numbers: Range<u32>,
) -> Result<(), QueueError> {
    let publishing = numbers.map(|number| publisher.publish_events(numbered(number)));
    try_join_all(publishing).await.map(drop)
}

/// A message that is due after a delay.
pub(crate) fn after(delay: Duration, number: u32) -> Deferred {
    let due = Timestamp::from(SystemTime::now()).after(delay);
    let message = PublishedEvents {
        due: Some(due),
        ..numbered(number)
    };
    Deferred {
        message,
        delivery_count: 0,
    }
}

pub(crate) fn json(body: &'static str) -> (Bytes, BasicProperties) {
    let properties = BasicProperties::default().with_content_type("application/json".into());
    (Bytes::from_static(body.as_bytes()), properties)
}
