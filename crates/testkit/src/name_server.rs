//! A name server of our own on loopback, which may say something else each time it is asked.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// The answer for a name.
#[derive(Debug, Clone)]
pub enum DnsAnswer {
    /// It has these addresses.
    Addresses(Vec<IpAddr>),
    /// It is another name for this one, which has these addresses.
    Alias(&'static str, Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// Nothing, ever.
    Nothing,
    /// To the question for IPv4 this, and to the one for IPv6 that.
    PerFamily(FamilyAnswer, FamilyAnswer),
}

/// The answer to the question for one family of addresses.
#[derive(Debug, Clone)]
pub enum FamilyAnswer {
    /// These addresses, after that long.
    After(Duration, Vec<IpAddr>),
    /// Nothing, ever.
    Never,
}

/// How often a name was asked for, by name, without the dot at its end.
pub type LookUps = HashMap<String, usize>;

/// A name server that serves until the program ends.
#[derive(Clone)]
pub struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<LookUps>>,
}

impl NameServer {
    /// Answers with the result of `say` for a name and the number of earlier look-ups of it.
    /// The answer may not be cached.
    pub async fn with(
        respond: impl Fn(&str, usize) -> DnsAnswer + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let server = Self {
            address: socket.local_addr()?,
            asked: Arc::default(),
        };
        let asked = Arc::clone(&server.asked);
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let mut delay = Duration::ZERO;
                let answer = answer(&buffer[..length], |name, kind| {
                    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                    let count = asked.entry(name.to_owned()).or_default();
                    // A look-up asks for both kinds of address, in any order.
                    let before = *count / 2;
                    *count += 1;
                    match respond(name, before) {
                        DnsAnswer::Addresses(all) => DnsAnswer::Addresses(of_kind(all, kind)),
                        DnsAnswer::Alias(alias, all) => DnsAnswer::Alias(alias, of_kind(all, kind)),
                        DnsAnswer::PerFamily(v4, v6) => {
                            match if kind == RecordType::A { v4 } else { v6 } {
                                FamilyAnswer::After(after, addresses) => {
                                    delay = after;
                                    DnsAnswer::Addresses(addresses)
                                }
                                FamilyAnswer::Never => DnsAnswer::Nothing,
                            }
                        }
                        other => other,
                    }
                });
                let Some(answer) = answer else { continue };
                // A client that does not get it asks again.
                if delay.is_zero() {
                    let _ = socket.send_to(&answer, from).await;
                    continue;
                }
                let socket = Arc::clone(&socket);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = socket.send_to(&answer, from).await;
                });
            }
        });
        Ok(server)
    }

    /// Its address, as the setting `targets.name_servers` takes it.
    pub fn setting(&self) -> String {
        format!("[\"{}\"]", self.address)
    }

    /// How many look-ups of a name there were.
    pub fn look_ups(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(name).map_or(0, |count| count.div_ceil(2))
    }
}

fn of_kind(all: Vec<IpAddr>, kind: RecordType) -> Vec<IpAddr> {
    let matches = |address: &IpAddr| address.is_ipv4() == (kind == RecordType::A);
    all.into_iter().filter(matches).collect()
}

fn answer(question: &[u8], respond: impl FnOnce(&str, RecordType) -> DnsAnswer) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let text = query.name().to_ascii().to_ascii_lowercase();
    let found = respond(text.trim_end_matches('.'), query.query_type());
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    let (owner, addresses) = match found {
        DnsAnswer::Nothing | DnsAnswer::PerFamily(..) => return None,
        DnsAnswer::NoSuchName => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            (query.name().clone(), Vec::new())
        }
        DnsAnswer::Addresses(addresses) => (query.name().clone(), addresses),
        DnsAnswer::Alias(alias, addresses) => {
            let alias = Name::from_ascii(format!("{alias}.")).ok()?;
            let data = RData::CNAME(CNAME(alias.clone()));
            answer.add_answer(Record::from_rdata(query.name().clone(), 0, data));
            (alias, addresses)
        }
    };
    answer.add_query(query);
    for address in addresses {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        answer.add_answer(Record::from_rdata(owner.clone(), 0, data));
    }
    answer.to_vec().ok()
}
