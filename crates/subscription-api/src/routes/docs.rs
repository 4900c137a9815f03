//! The OpenAPI document and the documentation page.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

/// The OpenAPI document. `server` provides it, because the document is built from these routes.
pub(crate) struct OpenApiDocument(pub(crate) &'static str);

/// It loads and shows `openapi.json` from the same path.
const PAGE: &str = include_str!("docs.html");

/// The page loads nothing from other origins.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The OpenAPI document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operation", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json",
        body = serde_json::Value))
)]
pub(crate) async fn openapi(document: web::Data<OpenApiDocument>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(document.0)
}

/// The documentation as a page.
#[utoipa::path(
    get, path = "/docs", tag = "Operation", operation_id = "docs",
    responses((status = 200, description = "An HTML page", content_type = "text/html", body = String))
)]
pub(crate) async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .content_type("text/html; charset=utf-8")
        .body(PAGE)
}

/// Redirects a browser from `/` to the documentation.
pub(crate) async fn home() -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/docs"))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two colours of `--name: light-dark(#…, #…)`.
    fn colours(name: &str) -> [&'static str; 2] {
        let (_, rest) = PAGE.split_once(&format!("--{name}: light-dark(")).unwrap();
        let (light, rest) = rest.split_once(", ").unwrap();
        let (dark, _) = rest.split_once(')').unwrap();
        [light, dark]
    }

    /// WCAG 2.1, relative luminance.
    fn luminance(colour: &str) -> f64 {
        let digits = colour.strip_prefix('#').unwrap();
        let width = digits.len() / 3;
        let channel = |index: usize| {
            let text = digits[index * width..][..width].repeat(3 - width);
            let value = f64::from(u8::from_str_radix(&text, 16).unwrap()) / 255.0;
            match value <= 0.03928 {
                true => value / 12.92,
                false => ((value + 0.055) / 1.055).powf(2.4),
            }
        };
        0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn the_page_has_the_contrast_of_wcag_aa_in_both_themes() {
        assert!((contrast("#fff", "#000") - 21.0).abs() < 0.01);
        for theme in [0, 1] {
            for text in ["ink", "soft", "accent", "get", "post", "patch", "delete"] {
                for ground in ["paper", "panel"] {
                    let (text_colour, ground_colour) =
                        (colours(text)[theme], colours(ground)[theme]);
                    let contrast = contrast(text_colour, ground_colour);
                    assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
                }
            }
        }
        // The text of a badge has the background colour of the page.
        let [light, dark] = colours("paper");
        assert!(PAGE.contains(&format!(
            "header .method {{ color: light-dark({light}, {dark});"
        )));
    }
}
