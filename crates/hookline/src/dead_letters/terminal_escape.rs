//! Terminal escaping. Text of a publisher could control the operator's terminal, so such characters are escaped.

use std::fmt::Write as _;

/// Escapes control characters, and those that change the direction of writing.
pub(super) fn escaped(text: &str) -> String {
    escaped_but(text, |_| false)
}

/// As [`escaped`], but keeps line ends.
pub(super) fn escaped_lines(text: &str) -> String {
    escaped_but(text, |character| character == '\n')
}

fn escaped_but(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) && !is_kept(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Bytes of a binary body that are shown.
const SHOWN: usize = 4 * 1024;

/// Lines of hexadecimal digits.
pub(super) fn hex_dump(bytes: &[u8]) -> String {
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
    fn control_characters_do_not_reach_the_terminal() {
        let hostile = "a\u{1b}]0;owned\u{7}\u{9b}2J\r\n\u{202e}é";
        assert_eq!(
            escaped(hostile),
            "a\\u{1b}]0;owned\\u{7}\\u{9b}2J\\r\\n\\u{202e}é"
        );
        assert_eq!(escaped_lines("{\n\t}"), "{\n\\t}");
    }

    #[test]
    fn the_beginning_of_a_binary_body_is_shown() {
        assert_eq!(hex_dump(&[0, 255]), "00ff\n");
        assert!(hex_dump(&[7; 5000]).ends_with("… and 904 bytes more\n"));
    }
}
