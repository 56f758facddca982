//! An anchor in an S3 bucket: `s3://bucket/prefix?region=…&endpoint=…`, of a build with the cargo
//! feature `s3`.
//!
//! Each checkpoint is an object of its own, `prefix/<escaped origin>/<size in 20 digits>`, with
//! the signed note as its content. Objects are made with `If-None-Match: *`, never overwritten:
//! that there is one checkpoint of a size holds also between several writers. Against whoever has
//! the credentials, the bucket's own rules must hold: give it a default retention (Object Lock),
//! or the writer a policy without `s3:DeleteObject`.
//!
//! Credentials, and whatever the URL does not say, come from the environment as AWS's tools read
//! them: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
//! `AWS_WEB_IDENTITY_TOKEN_FILE`; or from the machine's role. Needed are `s3:PutObject`,
//! `s3:GetObject` and `s3:ListBucket`.

use std::error::Error;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Limited};
use ledger_verifier::TreeSize;
use ledger_verifier::note::MAX_NOTE_BYTES;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, Url};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::endpoint::client;
use super::{ANSWER_WITHIN, AnchorError, Held, Signed, checkpoint_in, compare, escaped};

/// What S3 lists at once.
const PAGE: usize = 1000;
/// Notes that are read at the same time when all are.
const READ_AT_ONCE: usize = 8;
/// The largest answer that is read: a page of names of at most a KiB, in XML.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Digits of a size in an object's name: their order as text is that of the sizes.
const SIZE_DIGITS: usize = 20;
/// How much of a store's own words is repeated.
const MAX_WORDS: usize = 200;

/// A bucket, and where in it.
pub struct Bucket {
    store: AmazonS3,
    prefix: Path,
}

impl Bucket {
    /// The anchor and its name.
    pub(super) fn parse(
        url: &str,
        variables: &[(String, String)],
    ) -> Result<(String, Self), String> {
        let form = "is s3://bucket/prefix, with at most ?region=…&endpoint=https://…";
        let url = Url::parse(url).map_err(|_| form)?;
        let bucket = url.host_str().filter(|bucket| !bucket.is_empty()).ok_or(form)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has no credentials: they come from AWS_ACCESS_KEY_ID and others".into());
        }
        if url.fragment().is_some() || url.port().is_some() {
            return Err(form.to_owned());
        }
        let prefix = Path::from_url_path(url.path()).map_err(|_| form)?;
        let mut builder = AmazonS3Builder::new();
        for (name, value) in variables {
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
                && name.starts_with("AWS_")
            {
                builder = builder.with_config(key, value);
            }
        }
        let mut is_plain = false;
        for (name, value) in url.query_pairs() {
            builder = match &*name {
                "region" => builder.with_region(value),
                "endpoint" => {
                    let endpoint = Url::parse(&value).map_err(|_| form)?;
                    let is_bare = endpoint.username().is_empty()
                        && endpoint.password().is_none()
                        && endpoint.query().is_none()
                        && endpoint.fragment().is_none();
                    if !is_bare || !matches!(endpoint.scheme(), "http" | "https") {
                        return Err(form.to_owned());
                    }
                    is_plain = endpoint.scheme() == "http";
                    builder.with_endpoint(value.trim_end_matches('/'))
                }
                _ => return Err(form.to_owned()),
            };
        }
        let no_retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let store = builder
            .with_bucket_name(bucket)
            .with_allow_http(is_plain)
            .with_http_connector(Connector(client(is_plain)?))
            .with_retry(no_retries)
            .build()
            .map_err(|error| format!("cannot be used: {}", words(&error)))?;
        // Region and endpoint are no secrets, and two buckets may differ in them alone.
        Ok((url.to_string(), Self { store, prefix }))
    }

    /// Puts the note, unless it is held already.
    pub(super) async fn publish(&self, signed: &Signed<'_>) -> Result<(), AnchorError> {
        let (origin, size) = (&signed.checkpoint.origin, signed.checkpoint.size);
        let held = bounded(self.page_from(origin, size)).await??;
        if let (Some(first), Some(last)) = (held.first(), held.last()) {
            // Where this size is held, it is the same or another history; else a larger one is.
            let path = self.path_of(origin, if *first == size { size } else { *last });
            return self.compare_with(&path, signed).await;
        }
        let path = self.path_of(origin, size);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.store.put_opts(&path, signed.note.to_owned().into(), options);
        match bounded(put).await? {
            Ok(_) => Ok(()),
            // Another instance was faster, or a request was answered too late.
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => self.compare_with(&path, signed).await,
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn compare_with(&self, path: &Path, signed: &Signed<'_>) -> Result<(), AnchorError> {
        let held = bounded(self.read(path)).await??;
        match compare(held, signed).map_err(|error| at(path, error))? {
            Held::Same => Ok(()),
            Held::Older => {
                Err(AnchorError::Damaged(format!("{path} holds a checkpoint of another size")))
            }
        }
    }

    /// Found by bisection over sizes: a bucket lists a thousand names at once, from the smallest.
    pub(super) async fn latest(&self, origin: &str) -> Result<Option<String>, AnchorError> {
        let Some(size) = bounded(self.largest(origin)).await?? else { return Ok(None) };
        let path = self.path_of(origin, size);
        let note = bounded(self.read(&path)).await??;
        checkpoint_in(&note, origin).map_err(|error| at(&path, error))?;
        Ok(Some(note))
    }

    pub(super) async fn all(
        &self,
        origin: &str,
        from: TreeSize,
        notes: mpsc::Sender<String>,
    ) -> Result<(), AnchorError> {
        let mut first_damage = Ok(());
        let mut from = Some(from);
        while let Some(first) = from {
            let page = bounded(self.page_from(origin, first)).await??;
            let is_last = page.len() < PAGE;
            from = page
                .last()
                .filter(|_| !is_last)
                .and_then(|last| last.0.checked_add(1).map(TreeSize));
            let read = |size| async move {
                let path = self.path_of(origin, size);
                let note = bounded(self.read(&path)).await??;
                checkpoint_in(&note, origin).map_err(|error| at(&path, error))?;
                Ok(note)
            };
            let mut read = stream::iter(page).map(read).buffered(READ_AT_ONCE);
            while let Some(note) = read.next().await {
                match note {
                    Ok(note) => {
                        if notes.send(note).await.is_err() {
                            // Nobody who receives any more is no error.
                            return Ok(());
                        }
                    }
                    Err(AnchorError::Damaged(what)) => {
                        first_damage = first_damage.and(Err(AnchorError::Damaged(what)));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        first_damage
    }

    async fn largest(&self, origin: &str) -> Result<Option<TreeSize>, AnchorError> {
        let mut page = self.page_from(origin, TreeSize(0)).await?;
        // Steps are doubled until nothing is found, and from then on halve what is left.
        let mut step = 1;
        let mut too_far: Option<u64> = None;
        loop {
            let Some(TreeSize(largest)) = page.last().copied() else { return Ok(None) };
            if page.len() < PAGE {
                return Ok(Some(TreeSize(largest)));
            }
            // Until something is found, which there is unless this one is the last.
            page = loop {
                let probe = match too_far {
                    Some(too_far) => largest + (too_far - largest).div_ceil(2),
                    None => largest.saturating_add(step),
                };
                let found = self.page_from(origin, TreeSize(probe)).await?;
                if !found.is_empty() {
                    break found;
                }
                too_far = Some(probe);
                if probe <= largest + 1 {
                    return Ok(Some(TreeSize(largest)));
                }
            };
            step = step.saturating_mul(2).max(PAGE as u64);
        }
    }

    fn folder_of(&self, origin: &str) -> Path {
        self.prefix.clone().join(escaped(origin))
    }

    fn path_of(&self, origin: &str, size: TreeSize) -> Path {
        self.folder_of(origin).join(format!("{:0SIZE_DIGITS$}", size.0))
    }

    /// The sizes that are held from this one on, rising, at most a page.
    async fn page_from(&self, origin: &str, size: TreeSize) -> Result<Vec<TreeSize>, AnchorError> {
        let folder = self.folder_of(origin);
        // Listed is what comes after a name; "0" comes before that of size 0.
        let after = match size.0.checked_sub(1) {
            Some(before) => self.path_of(origin, TreeSize(before)),
            None => folder.clone().join("0"),
        };
        let size_of = |path: &Path| {
            let name = path.filename().filter(|name| name.len() == SIZE_DIGITS)?;
            (*path == folder.clone().join(name)).then(|| name.parse().ok().map(TreeSize))?
        };
        self.store
            .list_with_offset(Some(&folder), &after)
            // Others may lie there too.
            .try_filter_map(|object| std::future::ready(Ok(size_of(&object.location))))
            .take(PAGE)
            .try_collect()
            .await
            .map_err(|error| unavailable(&error))
    }

    async fn read(&self, path: &Path) -> Result<String, AnchorError> {
        let got = self.store.get(path).await.map_err(|error| unavailable(&error))?;
        if got.meta.size > MAX_NOTE_BYTES as u64 {
            return Err(AnchorError::Damaged(format!("{path} is too large for a note")));
        }
        let note = got.bytes().await.map_err(|error| unavailable(&error))?;
        String::from_utf8(note.into())
            .map_err(|_| AnchorError::Damaged(format!("{path} is not UTF-8")))
    }
}

/// Gives the store our own client: its own follows redirects, and reads whatever is sent.
#[derive(Debug)]
struct Connector(Client);

/// Our client, as the store asks it.
#[derive(Debug)]
struct Bounded(Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Bounded(self.0.clone())))
    }
}

impl HttpService for Bounded {
    // As #[async_trait] has it.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let query = request.uri().query().unwrap_or_default();
            let is_list = request.method() == Method::GET && query.contains("list-type=");
            let (head, body) = self.0.call(request).await?.into_parts();
            let content_type = head.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
            if is_list
                && head.status.is_success()
                && !content_type.is_some_and(|it| it.contains("xml"))
            {
                // Any page at all would be read as an empty list: that nothing is held.
                let other = "it answered a listing with what is none".into();
                return Err(HttpError::new_boxed(HttpErrorKind::Decode, other));
            }
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| {
                let too_large = |_| {
                    let what = format!("it answered with more than {MAX_ANSWER_BYTES} bytes");
                    HttpError::new_boxed(HttpErrorKind::Decode, what.into())
                };
                error.downcast::<HttpError>().map_or_else(too_large, |error| *error)
            })?;
            Ok(HttpResponse::from_parts(head, body.to_bytes().into()))
        })
    }
}

/// One step against the store, credentials that it must fetch included.
async fn bounded<T>(step: impl Future<Output = T>) -> Result<T, AnchorError> {
    let within = 2 * ANSWER_WITHIN;
    timeout(within, step)
        .await
        .map_err(|_| AnchorError::Unavailable(format!("no answer within {} s", within.as_secs())))
}

/// Says at which object it is that something is damaged.
fn at(path: &Path, error: AnchorError) -> AnchorError {
    match error {
        AnchorError::Damaged(what) => AnchorError::Damaged(format!("{path}: {what}")),
        other => other,
    }
}

fn unavailable(error: &object_store::Error) -> AnchorError {
    let what = words(error);
    match error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::NotFound { .. } => AnchorError::Refused(what),
        _ => AnchorError::Unavailable(what),
    }
}

/// The innermost error, and of an answer in XML its code alone: the rest may repeat the request,
/// which names the access key.
fn words(error: &object_store::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string().replace("Server returned non-2xx status code:", "it answered");
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let text = match (code, text.split_once('<')) {
        (Some((code, _)), _) => format!("it answered {code}"),
        (None, Some((before, _))) => before.trim_end_matches([' ', ':']).to_owned(),
        (None, None) => text.trim_end_matches([' ', ':']).to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}
