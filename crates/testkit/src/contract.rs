//! The OpenAPI document as a check of what the API accepts and answers.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use jsonschema::{Draft, Validator};
use reqwest::Method;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, OnceCell};

use crate::http::get;

/// All deployments of a test run the same program.
static CONTRACT: OnceCell<Arc<Contract>> = OnceCell::const_new();

/// The document of the API, with validators of its schemas.
#[derive(Debug)]
pub struct Contract {
    document: Value,
    /// Validators by the path of their schema in the document.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// A request and its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange<'a> {
    pub(crate) method: &'a Method,
    /// The path behind the base of the API.
    pub(crate) path: &'a str,
    pub(crate) sent: Option<&'a [u8]>,
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) received: &'a [u8],
}

impl Contract {
    /// The document that the API at `base` serves; read once in a process.
    pub async fn at(base: &str) -> anyhow::Result<Arc<Self>> {
        let read = || async {
            let answer = get(format!("{base}/openapi.json")).await?;
            let document = answer.error_for_status()?.bytes().await?;
            Ok::<_, anyhow::Error>(Arc::new(Self {
                document: serde_json::from_slice(&document)?,
                validators: Mutex::default(),
            }))
        };
        CONTRACT.get_or_try_init(read).await.cloned()
    }

    /// Checks that the document has the status and the body of the answer, and the body of a request that was accepted.
    pub(crate) async fn check(&self, exchange: Exchange<'_>) -> anyhow::Result<()> {
        let what = || format!("{} {}", exchange.method, exchange.path);
        let Some(operation) = self.operation(exchange.method, exchange.path) else {
            ensure!(
                exchange.status >= 400 || *exchange.method == Method::OPTIONS,
                "the document has no {}",
                what()
            );
            return Ok(());
        };
        let answer = format!("{operation}/responses/{}", exchange.status);
        let described = self.document.pointer(&answer);
        let described = described
            .with_context(|| format!("the document has no {} for {}", exchange.status, what()))?;
        // Errors are described once, and referred to.
        let answer = match described["$ref"].as_str() {
            Some(reference) => reference.trim_start_matches('#').to_owned(),
            None => answer,
        };
        let described = self.document.pointer(&answer);
        let described = described.with_context(|| format!("the document has no {answer}"))?;
        if described["content"].is_object() || !exchange.received.is_empty() {
            let essence = exchange.content_type.split(';').next().unwrap_or_default();
            self.check_body(&format!("{answer}/content"), essence, exchange.received)
                .await
                .with_context(|| format!("the answer {} of {}", exchange.status, what()))?;
        }
        let content = format!("{operation}/requestBody/content");
        // A body of a call that has none is not read.
        if let Some(sent) = exchange.sent
            && (200..300).contains(&exchange.status)
            && !is_beyond_values(sent)
            && self.document.pointer(&content).is_some()
        {
            self.check_body(&content, "application/json", sent)
                .await
                .with_context(|| format!("the accepted body of {}", what()))?;
        }
        Ok(())
    }

    /// The path of an operation in the document. Of two templates that match, the one with fewer parameters counts.
    fn operation(&self, method: &Method, path: &str) -> Option<String> {
        let path = path.split('?').next()?;
        let paths = self.document["paths"].as_object()?;
        let matching = paths.keys().filter(|template| matches(template, path));
        let template = matching.min_by_key(|template| template.matches('{').count())?;
        let method = method.as_str().to_ascii_lowercase();
        paths[template].get(&method)?;
        Some(format!("/paths/{}/{method}", template.replace('/', "~1")))
    }

    async fn check_body(&self, content: &str, essence: &str, body: &[u8]) -> anyhow::Result<()> {
        let content = format!("{content}/{}", essence.replace('/', "~1"));
        let described = self.document.pointer(&content);
        let described =
            described.with_context(|| format!("the document has no type {essence:?} for it"))?;
        if !essence.ends_with("json") || described["schema"].is_null() {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(body)?;
        let validator = self.validator(format!("{content}/schema")).await?;
        let errors = validator.iter_errors(&value);
        let errors: Vec<String> = errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .take(5)
            .collect();
        if !errors.is_empty() {
            bail!("does not match the document: {}", errors.join("; "));
        }
        Ok(())
    }

    async fn validator(&self, schema: String) -> anyhow::Result<Arc<Validator>> {
        let mut validators = self.validators.lock().await;
        if let Some(known) = validators.get(&schema) {
            return Ok(Arc::clone(known));
        }
        // References within the document stay what they are.
        let mut root = self.document.clone();
        let fragment = schema.replace('{', "%7B").replace('}', "%7D");
        root["$ref"] = format!("#{fragment}").into();
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .build(&root)
            .map_err(|why| anyhow::anyhow!("{schema} is no schema: {why}"))?;
        let validator = Arc::new(validator);
        validators.insert(schema, Arc::clone(&validator));
        Ok(validator)
    }
}

/// Whether this is JSON with a number or a character that a value in memory cannot have, such as `1e400` or half of a
/// surrogate pair. A validator cannot read it.
fn is_beyond_values(body: &[u8]) -> bool {
    let is_value = serde_json::from_slice::<Value>(body).is_ok();
    !is_value && serde_json::from_slice::<&RawValue>(body).is_ok()
}

fn matches(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let all = template.split('/').all(|wanted| {
        let segment = segments.next();
        segment.is_some_and(|segment| wanted.starts_with('{') || wanted == segment)
    });
    all && segments.next().is_none()
}
