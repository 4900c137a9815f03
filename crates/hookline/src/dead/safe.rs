//! Text of strangers on an operator's terminal: what would steer it is shown and not obeyed.

use std::fmt::Write as _;

/// The text with control characters, and those that change the direction of writing, escaped.
pub(super) fn safe(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same, but line ends stay.
pub(super) fn safe_lines(text: &str) -> String {
    escaped(text, |character| character == '\n')
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) && !stays(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// How much of bytes that are no text is shown.
const SHOWN: usize = 4 * 1024;

/// Bytes as lines of hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for line in bytes[..bytes.len().min(SHOWN)].chunks(32) {
        for byte in line {
            let _ = write!(shown, "{byte:02x}");
        }
        shown.push('\n');
    }
    if bytes.len() > SHOWN {
        let _ = writeln!(shown, "… and {} bytes more", bytes.len() - SHOWN);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered() {
        let hostile = "a\u{1b}]0;owned\u{7}\u{9b}2J\r\n\u{202e}é";
        assert_eq!(
            safe(hostile),
            "a\\u{1b}]0;owned\\u{7}\\u{9b}2J\\r\\n\\u{202e}é"
        );
        assert_eq!(safe_lines("{\n\t}"), "{\n\\t}");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_part() {
        assert_eq!(hex(&[0, 255]), "00ff\n");
        assert!(hex(&[7; 5000]).ends_with("… and 904 bytes more\n"));
    }
}
