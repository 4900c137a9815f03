//! The grammar of `Forwarded` (RFC 7239, 4).

/// The `for` of each element of a line, from right to left; None for an element without it, and for one that breaks the
/// grammar. Each proxy appends its element, so text of the client makes no element of a proxy invalid.
pub(super) fn nodes(line: &str) -> Vec<Option<String>> {
    let mut nodes = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let last;
        (rest, last) = split_last(text);
        nodes.push(element(last).flatten());
    }
    nodes
}

/// The last element, and the text before its comma. A comma in a quoted string ends no element.
fn split_last(text: &str) -> (Option<&str>, &str) {
    let mut is_quoted = false;
    for (at, char) in text.char_indices().rev() {
        match char {
            '"' if !is_quoted => is_quoted = true,
            '"' => is_quoted = is_escaped(&text[..at]),
            ',' if !is_quoted => return (Some(&text[..at]), &text[at + 1..]),
            _ => {}
        }
    }
    (None, text)
}

/// Whether the character after this text is escaped in a quoted string.
fn is_escaped(before: &str) -> bool {
    before
        .bytes()
        .rev()
        .take_while(|byte| *byte == b'\\')
        .count()
        % 2
        == 1
}

/// The `for` of one element, `for=…;by=…`; None where the element breaks the grammar.
fn element(text: &str) -> Option<Option<String>> {
    let mut rest = skip_space(text);
    let mut node = None;
    loop {
        if !rest.starts_with(';') && !rest.is_empty() {
            let (name, value, after) = pair(rest)?;
            if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
                return None; // An element has each parameter at most once.
            }
            rest = after;
        }
        rest = skip_space(rest);
        match rest.strip_prefix(';') {
            Some(next) => rest = skip_space(next),
            None => return rest.is_empty().then_some(node),
        }
    }
}

fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = token(text)?;
    let rest = rest.strip_prefix('=')?;
    match rest.strip_prefix('"') {
        Some(quoted) => {
            let (value, rest) = unquote(quoted)?;
            Some((name, value, rest))
        }
        None => {
            let (value, rest) = token(rest)?;
            Some((name, value.to_owned(), rest))
        }
    }
}

/// RFC 9110, 5.6.2. Many proxies write `for=192.0.2.1:4711` without the quotes that the colon needs.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The text before the closing quote, and the rest.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(line: &str) -> String {
        let mut nodes = nodes(line);
        nodes.reverse();
        let shown: Vec<_> = nodes
            .into_iter()
            .map(|node| node.unwrap_or_else(|| "-".to_owned()))
            .collect();
        shown.join(" ")
    }

    #[test]
    fn the_examples_of_rfc_7239_are_read() {
        for (line, expected) in [
            ("for=\"_gazonk\"", "_gazonk"),
            (
                "For=\"[2001:db8:cafe::17]:4711\"",
                "[2001:db8:cafe::17]:4711",
            ),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            (
                "for=192.0.2.43, for=198.51.100.17",
                "192.0.2.43 198.51.100.17",
            ),
            (
                "for=192.0.2.43, for=\"[2001:db8:cafe::17]\";by=_x , proto=https",
                "192.0.2.43 [2001:db8:cafe::17] -",
            ),
            ("for=unknown", "unknown"),
            ("by=\"a,b;for=c\\\"\";for=192.0.2.1", "192.0.2.1"),
            (" ;for=192.0.2.1 ; ", "192.0.2.1"),
            ("", "-"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn an_element_that_breaks_the_grammar_has_no_node() {
        for bad in [
            "for",
            "for=",
            "=a",
            "for =a",
            "for=\"a",
            "for=\"a\\",
            "for=[::1]",
            "for=a b",
            "for=a;for=b",
            "for=\"a\"b",
        ] {
            assert_eq!(shown(bad), "-", "{bad}");
        }
    }

    #[test]
    fn an_invalid_element_does_not_affect_the_elements_to_its_right() {
        for (broken, expected) in [
            ("for=a b", "-"),
            ("for=\"a", "-"),
            ("for=\"a\\", "-"),
            ("\"", "-"),
            ("for=c, =,", "c - -"),
            ("for=\"a, for=b", "- b"),
        ] {
            for (written, read) in [
                ("for=192.0.2.1", "192.0.2.1"),
                ("for=\"[2001:db8::1]:4711\";by=x", "[2001:db8::1]:4711"),
                ("by=\"\\\",\\\\\";for=d, for=e", "d e"),
            ] {
                let line = format!("{broken}, {written}");
                assert_eq!(shown(&line), format!("{expected} {read}"), "{line}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_line_has_a_result(line: String, near in r#"[for=\\",; a:\[\]]{0,40}"#) {
            prop_assert!(!nodes(&line).is_empty() && !nodes(&near).is_empty());
        }
    }
}
