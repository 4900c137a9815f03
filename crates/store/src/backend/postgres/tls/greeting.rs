//! The start of the protocol between libpq and a server, which the tunnel forwards except for one message. A server with TLS
//! also offers SCRAM with channel binding. libpq sees a socket without TLS and takes that offer for an attack. The tunnel
//! removes the offer; the password check is the same without it, inside of a connection with a verified certificate.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest start message of either side.
const LONGEST: u32 = 10_000;

/// `AuthenticationSASL`, after the message's length.
const SASL: [u8; 4] = [0, 0, 0, 10];

const BOUND: &[u8] = b"SCRAM-SHA-256-PLUS";

/// The first message of a client.
pub(super) async fn start(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    read_rest(client, &mut message).await?;
    Ok(message)
}

/// The server's answer, possibly after a message on protocol versions (`v`).
pub(super) async fn answer(server: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    loop {
        let kind = server.read_u8().await?;
        let mut message = vec![kind];
        read_rest(server, &mut message).await?;
        if kind == b'R' && message.get(5..9) == Some(&SASL) {
            message = without_binding(&message);
        }
        received.extend(message);
        if kind != b'v' {
            return Ok(received);
        }
    }
}

/// The length, which includes itself, and the bytes.
async fn read_rest(from: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>) -> io::Result<()> {
    let length = from.read_u32().await?;
    if !(4..=LONGEST).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    into.extend(length.to_be_bytes());
    let begin = into.len();
    into.resize(begin + length as usize - 4, 0);
    from.read_exact(&mut into[begin..]).await.map(drop)
}

fn without_binding(offer: &[u8]) -> Vec<u8> {
    let (head, names) = offer.split_at(9);
    let kept: Vec<&[u8]> = names
        .split(|byte| *byte == 0)
        .filter(|name| *name != BOUND)
        .collect();
    let mut message = [head, &kept.join(&0)].concat();
    let length = u32::try_from(message.len() - 1).unwrap_or(LONGEST);
    message[1..5].copy_from_slice(&length.to_be_bytes());
    message
}

/// `ErrorResponse` with this text.
pub(super) fn refusal(why: &io::Error) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C08006\0M{why}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap_or(LONGEST);
    [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_offer_to_bind_is_left_out_and_nothing_else() {
        let offer = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let plain = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        let version = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";
        assert_eq!(answer(&mut &offer[..]).await.unwrap(), plain);
        assert_eq!(answer(&mut &plain[..]).await.unwrap(), plain);
        let both = [&version[..], offer].concat();
        assert_eq!(
            answer(&mut &both[..]).await.unwrap(),
            [&version[..], plain].concat()
        );
    }

    #[tokio::test]
    async fn a_greeting_without_end_is_not_waited_for() {
        for length in [0_u32, 3, LONGEST + 1, u32::MAX] {
            let message = [&length.to_be_bytes()[..], &[0; 16]].concat();
            assert!(start(&mut &message[..]).await.is_err());
        }
    }
}
