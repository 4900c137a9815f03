//! Bold, dim and coloured text on a terminal. Other outputs get plain text.

use std::env;
use std::io::{self, IsTerminal as _};
use std::sync::LazyLock;

static COLOURED: LazyLock<bool> = LazyLock::new(|| {
    let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && env::var_os("TERM").is_none_or(|term| term != "dumb") && io::stdout().is_terminal()
});

pub(crate) fn bold(text: &str) -> String {
    painted("1", text)
}

pub(crate) fn dim(text: &str) -> String {
    painted("2", text)
}

pub(crate) fn green(text: &str) -> String {
    painted("32", text)
}

pub(crate) fn yellow(text: &str) -> String {
    painted("33", text)
}

pub(crate) fn red(text: &str) -> String {
    painted("31", text)
}

pub(crate) fn cyan(text: &str) -> String {
    painted("36", text)
}

fn painted(code: &str, text: &str) -> String {
    if *COLOURED && !text.is_empty() {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}
