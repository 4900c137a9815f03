//! Permanent refusals, which an operator ends and a retry does not: a wrong user, password or vhost, or a missing right.
//!
//! RabbitMQ names the resource and the user in its text, never the password.

use lapin::ErrorKind;

use crate::error::HostFault;

/// AMQP 0-9-1, section 1.2: access-refused and not-allowed.
const ACCESS_REFUSED: u16 = 403;
const NOT_ALLOWED: u16 = 530;
const NOT_FOUND: u16 = 404;

const TABLE: &str = "docs/rights.md lists the rights";

/// A connection that could not be opened.
pub(crate) fn of_connection(error: lapin::Error) -> HostFault {
    match protocol_error(&error) {
        Some((ACCESS_REFUSED, why)) => HostFault::Refused(format!(
            "wrong user or password ({why}): correct the broker URL, or set the password with \
             `rabbitmqctl change_password`"
        )),
        // A full vhost has room again when other connections end.
        Some((NOT_ALLOWED, why)) if !why.contains("limit") => HostFault::Refused(format!(
            "no access to the vhost ({why}): correct the broker URL, or use `rabbitmqctl add_vhost` and \
             `rabbitmqctl set_permissions`; {TABLE}"
        )),
        _ => HostFault::Connect(error),
    }
}

/// A declaration that was refused, although what was to be declared does not exist.
pub(crate) fn of_declaration(refused: &lapin::Error, missing: lapin::Error) -> HostFault {
    match (protocol_error(refused), protocol_error(&missing)) {
        (Some((_, refused)), Some((NOT_FOUND, missing))) => HostFault::Refused(format!(
            "the exchanges and queues are not all declared ({missing}), and the user may not declare them \
             ({refused}): run `hookline migrate` with a user that may; {TABLE}"
        )),
        _ => HostFault::Topology(missing),
    }
}

/// The exchange that publishers use does not exist.
pub(crate) fn of_publisher(missing: lapin::Error) -> HostFault {
    match protocol_error(&missing) {
        Some((NOT_FOUND, why)) => HostFault::Refused(format!(
            "the exchange for events is not declared ({why}): start the services, or run `hookline migrate`"
        )),
        _ => HostFault::Topology(missing),
    }
}

/// The remedy if the user lacks a right; none for another error.
pub(crate) fn missing_right(error: &lapin::Error) -> Option<String> {
    let (_, why) = protocol_error(error).filter(|(id, _)| *id == ACCESS_REFUSED)?;
    Some(format!(
        "the user of the broker URL lacks a right ({why}): use `rabbitmqctl set_permissions`; {TABLE}"
    ))
}

pub(crate) fn is_not_found(error: &lapin::Error) -> bool {
    protocol_error(error).is_some_and(|(id, _)| id == NOT_FOUND)
}

pub(crate) fn is_access_refused(error: &lapin::Error) -> bool {
    protocol_error(error).is_some_and(|(id, _)| id == ACCESS_REFUSED)
}

fn protocol_error(error: &lapin::Error) -> Option<(u16, &str)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().as_str())),
        _ => None,
    }
}
