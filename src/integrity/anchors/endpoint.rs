//! One bounded HTTP exchange: limits on time and size, no redirects, and errors that say nothing
//! of credentials.

use std::error::Error;

use percent_encoding::percent_decode_str;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};

use super::{ANSWER_WITHIN, AnchorError, CONNECT_WITHIN};

/// Where to ask, and as whom.
pub(super) struct Endpoint {
    /// Without credentials, query and fragment.
    url: Url,
    login: Option<Login>,
    client: Client,
}

struct Login {
    user: String,
    password: SecretString,
}

/// A client that keeps our limits on time, and follows and repeats nothing. `is_plain`: it will
/// reach its server without TLS.
pub(super) fn client(is_plain: bool) -> Result<Client, String> {
    let mut client = Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never());
    if is_plain {
        // Nothing will be asked of them, and reading the system's takes its time.
        client = client.tls_certs_only([]);
    }
    client.build().map_err(|error| format!("cannot be used: {}", cause(&error)))
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    content_type: Option<HeaderValue>,
    pub(super) body: Vec<u8>,
}

impl Endpoint {
    /// Reads `http://` and `https://` with an optional user and password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        // The parser's own errors are about what was given, which may be a password.
        let mut url = Url::parse(url).map_err(|_| "is no URL with a host")?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("is no http or https URL with a host".to_owned());
        }
        if url.query().is_some() {
            return Err("has no query: a token goes before the host, as user:token@".to_owned());
        }
        if url.fragment().is_some() {
            return Err("has no fragment".to_owned());
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let password = url.password().map(decoded).unwrap_or_default();
        let user = decoded(url.username());
        let is_login = !user.is_empty() || !password.is_empty();
        let login = is_login.then(|| Login { user, password: password.into() });
        if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
            return Err("is no http or https URL with a host".to_owned());
        }
        let client = client(url.scheme() == "http")?;
        Ok(Self { url, login, client })
    }

    /// Without credentials.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Asks with one query parameter.
    pub(super) async fn get(
        &self,
        query: (&str, &str),
        limit: usize,
    ) -> Result<Answer, AnchorError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair(query.0, query.1);
        self.exchange(self.client.request(Method::GET, url), limit).await
    }

    /// Posts to a path below the URL's own, or to the URL itself if it is empty.
    pub(super) async fn post(
        &self,
        below: &str,
        content_type: &'static str,
        body: Vec<u8>,
        limit: usize,
    ) -> Result<Answer, AnchorError> {
        let mut url = self.url.clone();
        if !below.is_empty() {
            url.set_path(&format!("{}/{below}", self.url.path().trim_end_matches('/')));
        }
        let request = self.client.request(Method::POST, url);
        self.exchange(request.header(CONTENT_TYPE, content_type).body(body), limit).await
    }

    /// Sends the request and reads the answer up to `limit` bytes.
    async fn exchange(
        &self,
        mut request: RequestBuilder,
        limit: usize,
    ) -> Result<Answer, AnchorError> {
        if let Some(Login { user, password }) = &self.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let mut response = request.send().await.map_err(|error| unavailable(&error))?;
        let status = response.status();
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(&error))? {
            if body.len() + chunk.len() > limit {
                let what = format!("it answered {} with more than {limit} bytes", status.as_u16());
                return Err(AnchorError::Refused(what));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, content_type, body })
    }
}

impl Answer {
    /// That this status is none of those that mean something. The body is not repeated: a server
    /// that echoes requests would put the credentials into our telemetry.
    pub(super) fn unexpected(&self) -> AnchorError {
        let what = match self.status.as_u16() {
            401 | 403 => "; are its credentials right?",
            300..=399 => "; give the address that it redirects to",
            _ => "",
        };
        AnchorError::Refused(format!("it answered {}{what}", self.status))
    }

    /// Whether the content is of this media type, whatever its parameters.
    pub(super) fn is_of(&self, media_type: &str) -> bool {
        let content_type = self.content_type.as_ref().and_then(|value| value.to_str().ok());
        content_type
            .and_then(|value| value.split(';').next())
            .is_some_and(|value| value.trim().eq_ignore_ascii_case(media_type))
    }
}

fn unavailable(error: &reqwest::Error) -> AnchorError {
    if error.is_timeout() {
        let what = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
        return AnchorError::Unavailable(what);
    }
    let what = if error.is_connect() { "cannot be reached" } else { "the answer broke off" };
    AnchorError::Unavailable(format!("{what}: {}", cause(error)))
}

/// The innermost error, which says most, and nothing of the request.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: Option<&dyn Error> = error.source();
    while let Some(source) = innermost.and_then(Error::source) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| "no connection".to_owned(), ToString::to_string)
}
