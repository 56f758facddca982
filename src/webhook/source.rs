//! Where deliveries come from, how each source proves itself, and which members of its bodies
//! make a signal.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::auth::Method;
use super::mapping::check_defaults;
use crate::body::json::Pointers;

/// The source that exists from the start.
pub const TRADINGVIEW: &str = "tradingview";
/// A shorter secret can be guessed from one signed delivery.
pub const MIN_SECRET_BYTES: usize = 16;
/// How the Standard Webhooks specification marks a secret that is base64.
const STANDARD_SECRET_PREFIX: &str = "whsec_";
/// The member that carries a body token, unless the source names another.
const TOKEN_MEMBER: &str = "token";
/// A name stands in `recorded_by`.
const MAX_NAME_CHARS: usize = 64;

/// A sender that is known to the service.
#[derive(Debug)]
pub struct Source {
    /// Its name in the path, and `recorded_by` of its signals.
    pub name: String,
    /// How it may prove itself.
    pub methods: Vec<Method>,
    /// Any of these is accepted: several during a rotation.
    pub secrets: Vec<WebhookSecret>,
    /// The member of the body that carries a body token.
    pub token_member: String,
    /// Where it may send from; anywhere if there is none.
    pub allow_from: Vec<IpNet>,
    /// Which members make a signal.
    pub mapping: Mapping,
}

impl Source {
    /// A source that signs its deliveries, by either of the two ways to sign, and has the
    /// default mapping.
    pub fn signed(name: &str, secrets: Vec<WebhookSecret>) -> Self {
        Self {
            name: name.to_owned(),
            methods: vec![Method::Hmac, Method::StandardWebhooks],
            secrets,
            token_member: TOKEN_MEMBER.to_owned(),
            allow_from: Vec::new(),
            mapping: Mapping::default(),
        }
    }

    /// Whether it may send from this address; from an unknown one only if from any.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        let is_listed = |address| self.allow_from.iter().any(|net| net.contains(&address));
        self.allow_from.is_empty() || address.is_some_and(is_listed)
    }

    /// Whether a secret of it travels with its deliveries.
    pub fn uses_tokens(&self) -> bool {
        self.methods.iter().any(|method| !method.checks_an_hmac())
    }

    /// Its secrets, to look for where they must not be.
    pub fn secret_texts(&self) -> Vec<&str> {
        self.secrets.iter().map(|secret| secret.0.expose_secret()).collect()
    }
}

/// Which members of a body make a signal: for each column JSON pointers (RFC 6901), of which the
/// first that is there and not null counts, and a text for where none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pointers: BTreeMap<Field, Vec<String>>,
    defaults: BTreeMap<Field, String>,
    /// All pointers, for the reader of bodies.
    wanted: Pointers,
}

/// A column of `signals` that a delivery fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The idempotency key.
    SignalId,
    /// What is traded.
    Symbol,
    /// Which way.
    Side,
    /// Price of one unit.
    Price,
    /// Units.
    Quantity,
}

impl Field {
    const ALL: [Self; 5] = [Self::SignalId, Self::Symbol, Self::Side, Self::Price, Self::Quantity];

    /// The column's name.
    pub fn column(self) -> &'static str {
        match self {
            Self::SignalId => "signal_id",
            Self::Symbol => "symbol",
            Self::Side => "side",
            Self::Price => "price",
            Self::Quantity => "quantity",
        }
    }

    fn default_pointers(self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::SignalId => &["/signal_id", "/id"],
            Self::Symbol => &["/symbol", "/ticker"],
            Self::Side => &["/side", "/action", "/order_action"],
            Self::Price => &["/price", "/close", "/order_price"],
            Self::Quantity => &["/quantity", "/qty", "/contracts", "/size"],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }
}

impl Default for Mapping {
    fn default() -> Self {
        Self::new(BTreeMap::new(), BTreeMap::new())
    }
}

impl Mapping {
    /// With these pointers in place of the default ones of their columns.
    pub fn new(
        mut pointers: BTreeMap<Field, Vec<String>>,
        defaults: BTreeMap<Field, String>,
    ) -> Self {
        for field in Field::ALL {
            pointers.entry(field).or_insert_with(|| field.default_pointers());
        }
        let wanted = pointers.values().flatten().cloned().collect();
        Self { pointers, defaults, wanted }
    }

    /// The pointers for a column, in the order in which they count.
    pub fn pointers(&self, field: Field) -> &[String] {
        &self.pointers[&field]
    }

    /// The text for where none of them is there.
    pub fn fallback(&self, field: Field) -> Option<&str> {
        self.defaults.get(&field).map(String::as_str)
    }

    /// Every pointer.
    pub fn wanted(&self) -> &Pointers {
        &self.wanted
    }
}

/// A secret shared with a sender. Its `Debug` never shows it.
#[derive(Clone, Debug)]
pub struct WebhookSecret(SecretString);

/// The secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short.
    #[error("a webhook secret has at least {MIN_SECRET_BYTES} bytes")]
    TooShort,
    /// Marked as base64, and is not.
    #[error("a webhook secret that starts with {STANDARD_SECRET_PREFIX} goes on in base64")]
    NotBase64,
}

impl WebhookSecret {
    /// Takes a secret of at least [`MIN_SECRET_BYTES`].
    pub fn new(secret: SecretString) -> Result<Self, SecretError> {
        let secret = Self(secret);
        if secret.try_standard_key()?.len() < MIN_SECRET_BYTES {
            return Err(SecretError::TooShort);
        }
        Ok(secret)
    }

    /// The key for a plain HMAC over the body, and the token itself: the secret's own bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    /// The key for Standard Webhooks: what stands in base64 after `whsec_`, else the bytes.
    pub fn standard_key(&self) -> Vec<u8> {
        self.try_standard_key().expect("checked when the secret was taken")
    }

    fn try_standard_key(&self) -> Result<Vec<u8>, SecretError> {
        match self.0.expose_secret().strip_prefix(STANDARD_SECRET_PREFIX) {
            Some(base64) => STANDARD.decode(base64).map_err(|_| SecretError::NotBase64),
            None => Ok(self.bytes().to_vec()),
        }
    }
}

/// One source in the TOML file; the table's name is the source's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceEntry {
    auth: Vec<Method>,
    #[serde(default)]
    secrets: Vec<SecretString>,
    secrets_file: Option<std::path::PathBuf>,
    token_member: Option<String>,
    #[serde(default)]
    allow_from: Vec<String>,
    #[serde(default)]
    mapping: BTreeMap<Field, Vec<String>>,
    #[serde(default)]
    defaults: BTreeMap<Field, String>,
}

/// Reads the sources of a TOML file. An error names the source and the rule, never a secret.
pub fn parse_sources(toml: &str) -> Result<Vec<Source>, String> {
    let entries: BTreeMap<String, SourceEntry> = toml::from_str(toml).map_err(|error| {
        // The error's own text shows the line, which may hold a secret.
        let line = error.span().map_or(0, |span| toml[..span.start].lines().count());
        format!("near line {line}: {}", without_value(error.message()))
    })?;
    let source = |(name, entry): (String, SourceEntry)| {
        entry.into_source(&name).map_err(|rule| format!("source {name}: {rule}"))
    };
    entries.into_iter().map(source).collect()
}

/// A message without the value that it shows, which may be a secret. Those of other kinds name
/// fields and variants only.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => {
            format!("an invalid value, expected {expected}")
        }
        _ if message.starts_with("invalid ") => "an invalid value".to_owned(),
        _ => message.to_owned(),
    }
}

impl SourceEntry {
    fn into_source(self, name: &str) -> Result<Source, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.chars().all(is_plain) {
            return Err("a name has up to 64 letters, digits, - _ .".to_owned());
        }
        if self.auth.is_empty() {
            return Err("auth names no method".to_owned());
        }
        let uses_token = self.auth.iter().any(|method| !method.checks_an_hmac());
        if uses_token && self.allow_from.is_empty() {
            return Err("a token needs allow_from, the addresses that may send it".to_owned());
        }
        let mut secrets = self.secrets;
        if let Some(path) = &self.secrets_file {
            let lines = std::fs::read_to_string(path)
                .map_err(|error| format!("secrets_file {}: {error}", path.display()))?;
            secrets.extend(lines.lines().filter(|line| !line.is_empty()).map(Into::into));
        }
        if secrets.is_empty() {
            return Err("no secret: set secrets or secrets_file".to_owned());
        }
        for (field, pointers) in &self.mapping {
            if pointers.is_empty() {
                return Err(format!("the mapping of {} names nothing", field.column()));
            }
            if let Some(wrong) = pointers.iter().find(|pointer| !is_pointer(pointer)) {
                return Err(format!("mapping: {wrong} is not a JSON pointer, such as /price"));
            }
        }
        if self.defaults.contains_key(&Field::SignalId) {
            return Err("signal_id has no default: every delivery has its own".to_owned());
        }
        Ok(Source {
            name: name.to_owned(),
            methods: self.auth,
            secrets: secrets
                .into_iter()
                .map(WebhookSecret::new)
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            token_member: self.token_member.unwrap_or_else(|| TOKEN_MEMBER.to_owned()),
            allow_from: self
                .allow_from
                .iter()
                .map(|text| parse_net(text).ok_or(format!("allow_from: {text} is no address")))
                .collect::<Result<_, _>>()?,
            mapping: {
                let mapping = Mapping::new(self.mapping, self.defaults);
                check_defaults(&mapping).map_err(|fault| format!("defaults: {}", fault.detail))?;
                mapping
            },
        })
    }
}

/// RFC 6901: empty, or names after slashes, with `~` only as `~0` and `~1`. The empty pointer,
/// which is the whole body, is none here.
fn is_pointer(pointer: &str) -> bool {
    let mut escapes = pointer.split('~').skip(1);
    pointer.starts_with('/') && escapes.all(|rest| rest.starts_with(['0', '1']))
}

/// An address, or a network as `10.0.0.0/8`.
pub fn parse_net(text: &str) -> Option<IpNet> {
    let address = |text: &str| text.parse::<IpAddr>().ok().map(IpNet::from);
    let net: IpNet = text.parse().ok().or_else(|| address(text))?;
    // Clients are compared by their IPv4 address where they came with an IPv4-mapped one.
    match (net.addr().to_canonical(), net.prefix_len()) {
        (IpAddr::V4(v4), bits) if net.addr().is_ipv6() => {
            IpNet::new(v4.into(), bits.checked_sub(96)?).ok()
        }
        _ => Some(net),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_sources_is_read() {
        let sources = parse_sources(
            r#"
            [tradingview]
            auth = ["body_token", "hmac"]
            secrets = ["a token of enough length"]
            token_member = "passphrase"
            allow_from = ["52.89.214.238", "34.212.75.0/24"]
            [tradingview.mapping]
            symbol = ["/order/symbol", "/ticker"]
            [tradingview.defaults]
            quantity = "1"
            "#,
        )
        .unwrap();
        let [source] = sources.as_slice() else { panic!("{sources:?}") };
        assert_eq!(source.methods, [Method::BodyToken, Method::Hmac]);
        assert_eq!(source.token_member, "passphrase");
        assert!(source.allows("34.212.75.30".parse().ok()));
        assert!(!source.allows("34.212.76.30".parse().ok()));
        assert_eq!(source.mapping.pointers(Field::Symbol), ["/order/symbol", "/ticker"]);
        assert_eq!(source.mapping.pointers(Field::Price), Field::Price.default_pointers());
        assert!(!source.allows(None));
        assert_eq!(parse_net("::ffff:10.0.0.1"), "10.0.0.1/32".parse().ok());
        assert_eq!(parse_net("::ffff:10.0.0.0/104"), "10.0.0.0/8".parse().ok());
        assert_eq!(source.mapping.fallback(Field::Quantity), Some("1"));
    }

    #[test]
    fn an_error_names_the_source_and_never_the_secret() {
        for (toml, rule) in [
            ("[a]\nsecrets = ['0123456789abcdef']", "missing field `auth`"),
            ("[a]\nauth = []\nsecrets = ['0123456789abcdef']", "auth names no method"),
            ("[a]\nauth = ['magic']\nsecrets = ['0123456789abcdef']", "unknown variant `magic`"),
            ("[a]\nauth = ['hmac']\nsecrets = ['0123456789abcde']", "at least 16 bytes"),
            ("[a]\nauth = ['hmac']", "no secret"),
            ("[a]\nauth = ['path_token']\nsecrets = ['0123456789abcdef']", "needs allow_from"),
            ("[a]\nauth = ['hmac']\nsecret = '0123456789abcdef'", "unknown field `secret`"),
            ("['a b']\nauth = ['hmac']\nsecrets = ['0123456789abcdef']", "a name has"),
            (
                "[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef']\nallow_from = ['home']",
                "home is no address",
            ),
            (
                "[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef']\nmapping.price = ['price']",
                "price is not a JSON pointer",
            ),
            (
                "[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef']\nmapping.colour = ['/c']",
                "unknown variant `colour`",
            ),
            ("[a]\nauth = ['hmac']\nsecrets = '0123456789abcdef'", "expected a sequence"),
            ("[a]\nauth = ['hmac']\nsecrets = '01234\"0123456789'", "expected a sequence"),
            ("[a]\nauth = ['hmac']\nsecrets = [1230123456789]", "expected a string"),
            ("[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef", "near line 3"),
            (
                "[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef']\nmapping.price = []",
                "mapping of price names nothing",
            ),
            (
                "[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef']\nmapping.price = ['/a~b']",
                "/a~b is not a JSON pointer",
            ),
            (
                "[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef']\ndefaults.signal_id = 'x'",
                "every delivery has its own",
            ),
            (
                "[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef']\ndefaults.price = 'abc'",
                "price is not a JSON number",
            ),
            (
                "[a]\nauth = ['hmac']\nsecrets = ['0123456789abcdef']\ndefaults.side = 'hold'",
                "side is none of buy",
            ),
        ] {
            let error = parse_sources(toml).unwrap_err();
            assert!(error.contains(rule), "{error}");
            assert!(!error.contains("0123456789"), "{error}");
        }
    }
}
