//! The target of a redirect, in a form that the log may show. A receiver may write anything into `Location`.

use http::header::{HeaderMap, LOCATION};
use url::Url;

/// In characters, without the mark that something was cut off.
const MAX_SHOWN: usize = 300;

/// The target of a redirect: the path alone on the origin that was called, else the whole URL. Credentials, query and
/// fragment are left out, because each may hold a secret. A URL holds no control character: the parser escapes or
/// removes them.
pub(super) fn shown(headers: &HeaderMap, called: &Url) -> Option<String> {
    let written = String::from_utf8_lossy(headers.get(LOCATION)?.as_bytes()).into_owned();
    let mut target = called.join(&written).ok()?;
    if !matches!(target.scheme(), "http" | "https") {
        return None;
    }
    target.set_username("").ok()?;
    target.set_password(None).ok()?;
    target.set_fragment(None);
    let had_query = target.query().is_some();
    target.set_query(None);
    let whole = if target.origin() == called.origin() {
        target.path()
    } else {
        target.as_str()
    };
    let mut shown: String = whole.chars().take(MAX_SHOWN).collect();
    if had_query || shown.len() < whole.len() {
        shown.push('…');
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn location(bytes: &[u8]) -> Option<String> {
        let called = Url::parse("https://shop.example/hooks").unwrap();
        let value = HeaderValue::from_bytes(bytes).unwrap();
        shown(&HeaderMap::from_iter([(LOCATION, value)]), &called)
    }

    #[test]
    fn a_redirect_is_shown_as_a_path_or_as_the_url_of_another_origin() {
        for (written, shown) in [
            ("/hooks/", "/hooks/"),
            ("../other", "/other"),
            ("https://shop.example/new", "/new"),
            ("http://shop.example/hooks", "http://shop.example/hooks"),
            (
                "https://www.shop.example/hooks",
                "https://www.shop.example/hooks",
            ),
            ("//www.shop.example", "https://www.shop.example/"),
        ] {
            assert_eq!(
                location(written.as_bytes()).as_deref(),
                Some(shown),
                "{written}"
            );
        }
    }

    #[test]
    fn a_shown_location_has_no_secret_no_control_character_and_a_bounded_length() {
        for written in [
            "https://user:hunter2@a.example/",
            "/login?token=hunter2",
            "/#hunter2",
        ] {
            let shown = location(written.as_bytes()).unwrap();
            assert!(
                !shown.contains("hunter2") && !shown.contains("user"),
                "{shown}"
            );
        }
        for written in [
            &b"/a\tb\x80\xe2\x80\xae"[..],
            "/\u{202e}".as_bytes(),
            b"https://a.example\\x\t/",
        ] {
            let shown = location(written).unwrap();
            assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
        }
        let long = location(format!("/{}", "x".repeat(60_000)).as_bytes()).unwrap();
        assert_eq!(long.chars().count(), MAX_SHOWN + 1);
    }

    #[test]
    fn a_location_that_is_not_http_is_not_shown() {
        for written in [
            "javascript:alert(1)",
            "data:text/html,x",
            "https://",
            "http://[::1",
        ] {
            assert_eq!(location(written.as_bytes()), None, "{written}");
        }
    }
}
