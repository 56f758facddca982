//! The configuration: environment variables and `.env`, each secret also as `…_FILE`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use ledger_verifier::note::VerifierKey;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::appender::BatchSettings;
use crate::chains::MAX_DOCUMENT_BYTES;
use crate::integrity::anchors::Anchor;
use crate::integrity::signing::{SigningKeys, new_key};
use crate::webhook::source::{Source, WebhookSecret, parse_net, parse_sources};

/// Every variable that the service reads; any other that starts with `LEDGER_` is an error,
/// since a misspelt one would be silently without effect.
const KNOWN: [&str; 26] = [
    "DATABASE_URL",
    "LEDGER_ANCHORS",
    "LEDGER_BATCH_DELAY_US",
    "LEDGER_BATCH_SIZE",
    "LEDGER_CHECKPOINT_INTERVAL_S",
    "LEDGER_DATA_DIR",
    "LEDGER_HASH_ALGORITHM",
    "LEDGER_LISTEN",
    "LEDGER_LOG",
    "LEDGER_LOG_PUBLIC",
    "LEDGER_MAX_BODY_BYTES",
    "LEDGER_METRICS_LISTEN",
    "LEDGER_MIGRATOR_DATABASE_URL",
    "LEDGER_ORIGIN",
    "LEDGER_PG_BINDIR",
    "LEDGER_RATE_LIMIT_ADDRESS_PER_S",
    "LEDGER_RATE_LIMIT_KEY_PER_S",
    "LEDGER_READ_DATABASE_URL",
    "LEDGER_RETENTION_DAYS",
    "LEDGER_SIGNING_KEY",
    "LEDGER_SOURCES",
    "LEDGER_TRUSTED_PROXIES",
    "LEDGER_VERIFIER_KEYS",
    "LEDGER_VERIFY_INTERVAL_S",
    "LEDGER_VERIFY_MODE",
    "LEDGER_WEBHOOK_SECRET",
];
/// Those of them that can be given as the content of a file, `…_FILE`.
const SECRETS: [&str; 6] = [
    "DATABASE_URL",
    "LEDGER_ANCHORS",
    "LEDGER_MIGRATOR_DATABASE_URL",
    "LEDGER_READ_DATABASE_URL",
    "LEDGER_SIGNING_KEY",
    "LEDGER_WEBHOOK_SECRET",
];
/// Where no anchor is wanted.
const NO_ANCHORS: &str = "none";
/// The largest body of a request, unless configured; at most it is as large as what a row holds.
pub const DEFAULT_BODY_BYTES: usize = 256 << 10;
/// Rows of one transaction; more would hold the ledger's lock for too long.
const MAX_BATCH_SIZE: usize = 10_000;
/// A batch that waits longer than this would eat up the time to answer in.
const MAX_BATCH_DELAY_US: u64 = 500_000;

/// More is no limit any more; zero says so.
const MAX_RATE_PER_S: u32 = 1_000_000;

/// Six years, as records of trading are kept in most places, and a day.
pub const DEFAULT_RETENTION_DAYS: u32 = 2192;
/// A century.
const MAX_RETENTION_DAYS: u32 = 36_525;

const DEFAULT_CHECK_EVERY: Duration = Duration::from_hours(1);
/// A month.
const MAX_CHECK_EVERY_S: u64 = 31 * 24 * 3600;

const DEFAULT_CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// An hour.
const MAX_CHECKPOINT_EVERY_S: u64 = 3600;

/// How checkpoints are made, and who keeps them.
#[derive(Debug)]
pub struct CheckpointSettings {
    /// Name of the log, where a key is made for it.
    pub origin: Option<String>,
    /// Keys that sign, one a line.
    pub signing_keys: Option<SecretString>,
    /// Keys whose signatures count in checks, beside those.
    pub verifier_keys: Vec<VerifierKey>,
    /// Places outside the database; `None` for what the private PostgreSQL has.
    pub anchors: Option<Vec<Anchor>>,
    /// How often a checkpoint is made where rows came; `None` for never.
    pub every: Option<Duration>,
    /// Whether the log is read without a key.
    pub log_is_public: bool,
}

/// What the service checks by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckMode {
    /// Everything, each time.
    Full,
    /// What came since the last checkpoint, and a slice of what that covers: all of it within a week.
    Rolling,
}

/// How many requests may come in a second, and twice as many at once; zero for any number.
#[derive(Clone, Copy, Debug)]
pub struct RateSettings {
    /// With one API key.
    pub key_per_s: u32,
    /// From one address, or one IPv6 network of 64 bits.
    pub address_per_s: u32,
}

impl Default for RateSettings {
    fn default() -> Self {
        Self { key_per_s: 1000, address_per_s: 1000 }
    }
}

impl RateSettings {
    /// No limits.
    pub const UNLIMITED: Self = Self { key_per_s: 0, address_per_s: 0 };
}

/// What the service was told.
#[derive(Debug)]
pub struct Config {
    /// Where the ledger is; `None` for the private PostgreSQL.
    pub database_url: Option<SecretString>,
    /// The login that migrates.
    pub migrator_database_url: Option<SecretString>,
    /// Folder of the private PostgreSQL and of what the service makes for itself.
    pub data_dir: PathBuf,
    /// Whether that folder was set, and is not the default.
    pub data_dir_is_set: bool,
    /// Folder of PostgreSQL's server binaries.
    pub pg_bindir: Option<PathBuf>,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Where `/metrics` is served, if not there.
    pub metrics_listen: Option<SocketAddr>,
    /// Secrets of the source `tradingview`; any of them is accepted.
    pub webhook_secrets: Vec<WebhookSecret>,
    /// Sources of the TOML file.
    pub sources: Vec<Source>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How batches are made.
    pub batch: BatchSettings,
    /// The largest body of a delivery.
    pub max_body_bytes: usize,
    /// How many requests are answered.
    pub rates: RateSettings,
    /// A physical replica that checks read from.
    pub read_database_url: Option<SecretString>,
    /// How checkpoints are made.
    pub checkpoints: CheckpointSettings,
    /// What the service checks by itself.
    pub check_mode: CheckMode,
    /// How often it does; `None` for never.
    pub check_every: Option<Duration>,
    /// For how many days rows are to be kept at least. Nothing is removed by it.
    pub retention_days: u32,
    /// Filter of the telemetry, as `tracing_subscriber::EnvFilter` reads it.
    pub log: String,
}

/// A variable that cannot be used. It never repeats a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {rule}")]
pub struct ConfigError {
    /// Its name.
    pub variable: String,
    /// What it must be.
    pub rule: String,
}

impl ConfigError {
    fn new(variable: &str, rule: impl fmt::Display) -> Self {
        Self { variable: variable.to_owned(), rule: rule.to_string() }
    }
}

impl Config {
    /// From variables, for example those of the process.
    pub fn from_variables(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables: Vec<_> = variables.into_iter().collect();
        // Credentials of a bucket are named as everywhere.
        let of_buckets: Vec<_> =
            variables.iter().filter(|(name, _)| name.starts_with("AWS_")).cloned().collect();
        let variables = Variables::new(variables)?;
        if let Some(algorithm) = variables.text("LEDGER_HASH_ALGORITHM")
            && algorithm != "sha-256"
        {
            return Err(ConfigError::new("LEDGER_HASH_ALGORITHM", "the format has sha-256 only"));
        }
        let data_dir = variables.text("LEDGER_DATA_DIR").map(PathBuf::from);
        let bounded = |name, default, max| match variables.parsed(name)? {
            None => Ok(default),
            Some(value) if (1..=max).contains(&value) => Ok(value),
            Some(_) => Err(ConfigError::new(name, format!("is from 1 to {max}"))),
        };
        let rates = RateSettings::default();
        let rate = |name, default| match variables.parsed(name)? {
            None => Ok(default),
            Some(rate) if rate <= MAX_RATE_PER_S => Ok(rate),
            Some(_) => Err(ConfigError::new(name, format!("is at most {MAX_RATE_PER_S}"))),
        };
        let delay_us: u64 = variables.parsed("LEDGER_BATCH_DELAY_US")?.unwrap_or(0);
        if delay_us > MAX_BATCH_DELAY_US {
            let rule = format!("is at most {MAX_BATCH_DELAY_US}");
            return Err(ConfigError::new("LEDGER_BATCH_DELAY_US", rule));
        }
        Ok(Self {
            database_url: variables.secret("DATABASE_URL")?,
            migrator_database_url: variables.secret("LEDGER_MIGRATOR_DATABASE_URL")?,
            data_dir_is_set: data_dir.is_some(),
            data_dir: data_dir.unwrap_or_else(|| ".ledger".into()),
            pg_bindir: variables.text("LEDGER_PG_BINDIR").map(PathBuf::from),
            listen: variables
                .parsed("LEDGER_LISTEN")?
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            metrics_listen: variables.parsed("LEDGER_METRICS_LISTEN")?,
            webhook_secrets: webhook_secrets(variables.secret("LEDGER_WEBHOOK_SECRET")?)?,
            sources: sources(variables.text("LEDGER_SOURCES"))?,
            trusted_proxies: variables
                .text("LEDGER_TRUSTED_PROXIES")
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .filter(|net| !net.is_empty())
                .map(|net| {
                    let rule = || format!("{net} is no address or network");
                    parse_net(net).ok_or_else(|| ConfigError::new("LEDGER_TRUSTED_PROXIES", rule()))
                })
                .collect::<Result<_, _>>()?,
            batch: BatchSettings {
                size: bounded("LEDGER_BATCH_SIZE", BatchSettings::default().size, MAX_BATCH_SIZE)?,
                delay: Duration::from_micros(delay_us),
            },
            max_body_bytes: bounded(
                "LEDGER_MAX_BODY_BYTES",
                DEFAULT_BODY_BYTES,
                MAX_DOCUMENT_BYTES,
            )?,
            rates: RateSettings {
                key_per_s: rate("LEDGER_RATE_LIMIT_KEY_PER_S", rates.key_per_s)?,
                address_per_s: rate("LEDGER_RATE_LIMIT_ADDRESS_PER_S", rates.address_per_s)?,
            },
            read_database_url: variables.secret("LEDGER_READ_DATABASE_URL")?,
            checkpoints: checkpoint_settings(&variables, &of_buckets)?,
            check_mode: match variables.text("LEDGER_VERIFY_MODE").as_deref() {
                None | Some("full") => CheckMode::Full,
                Some("rolling") => CheckMode::Rolling,
                Some(_) => {
                    return Err(ConfigError::new("LEDGER_VERIFY_MODE", "is full or rolling"));
                }
            },
            check_every: match variables.parsed("LEDGER_VERIFY_INTERVAL_S")? {
                None => Some(DEFAULT_CHECK_EVERY),
                Some(0) => None,
                Some(seconds) if seconds <= MAX_CHECK_EVERY_S => Some(Duration::from_secs(seconds)),
                Some(_) => {
                    let rule = format!("is at most {MAX_CHECK_EVERY_S}");
                    return Err(ConfigError::new("LEDGER_VERIFY_INTERVAL_S", rule));
                }
            },
            retention_days: match variables.parsed("LEDGER_RETENTION_DAYS")? {
                None => DEFAULT_RETENTION_DAYS,
                Some(days) if (1..=MAX_RETENTION_DAYS).contains(&days) => days,
                Some(_) => {
                    let rule = format!("is from 1 to {MAX_RETENTION_DAYS}");
                    return Err(ConfigError::new("LEDGER_RETENTION_DAYS", rule));
                }
            },
            log: variables.text("LEDGER_LOG").unwrap_or_else(|| "info".to_owned()),
        })
    }

    /// The effective configuration for people, secrets redacted.
    pub fn redacted(&self) -> serde_json::Value {
        let set = |secret: &Option<SecretString>| secret.as_ref().map(|_| "(set)");
        json!({
            "DATABASE_URL": set(&self.database_url).unwrap_or("(none: private PostgreSQL)"),
            "LEDGER_MIGRATOR_DATABASE_URL": set(&self.migrator_database_url),
            "LEDGER_DATA_DIR": self.data_dir,
            "LEDGER_PG_BINDIR": self.pg_bindir,
            "LEDGER_LISTEN": self.listen,
            "LEDGER_METRICS_LISTEN": self.metrics_listen,
            "LEDGER_WEBHOOK_SECRET": format!("({} set)", self.webhook_secrets.len()),
            "LEDGER_SOURCES": self.sources.iter().map(|source| &source.name).collect::<Vec<_>>(),
            "LEDGER_TRUSTED_PROXIES": self.trusted_proxies,
            "LEDGER_BATCH_SIZE": self.batch.size,
            "LEDGER_BATCH_DELAY_US": self.batch.delay.as_micros(),
            "LEDGER_MAX_BODY_BYTES": self.max_body_bytes,
            "LEDGER_READ_DATABASE_URL": set(&self.read_database_url),
            "LEDGER_ORIGIN": self.checkpoints.origin,
            "LEDGER_SIGNING_KEY": set(&self.checkpoints.signing_keys),
            "LEDGER_VERIFIER_KEYS": self.checkpoints.verifier_keys.iter()
                .map(ToString::to_string).collect::<Vec<_>>(),
            "LEDGER_ANCHORS": self.checkpoints.anchors.as_ref()
                .map(|anchors| anchors.iter().map(Anchor::name).collect::<Vec<_>>()),
            "LEDGER_CHECKPOINT_INTERVAL_S": self.checkpoints.every.map_or(0, |every| every.as_secs()),
            "LEDGER_LOG_PUBLIC": self.checkpoints.log_is_public,
            "LEDGER_VERIFY_MODE": match self.check_mode {
                CheckMode::Full => "full",
                CheckMode::Rolling => "rolling",
            },
            "LEDGER_VERIFY_INTERVAL_S": self.check_every.map_or(0, |every| every.as_secs()),
            "LEDGER_RETENTION_DAYS": self.retention_days,
            "LEDGER_RATE_LIMIT_KEY_PER_S": self.rates.key_per_s,
            "LEDGER_RATE_LIMIT_ADDRESS_PER_S": self.rates.address_per_s,
            "LEDGER_HASH_ALGORITHM": "sha-256",
            "LEDGER_LOG": self.log,
        })
    }
}

fn checkpoint_settings(
    variables: &Variables,
    of_buckets: &[(String, String)],
) -> Result<CheckpointSettings, ConfigError> {
    let signing_keys = variables.secret("LEDGER_SIGNING_KEY")?;
    if let Some(keys) = &signing_keys {
        let wrong = |rule| ConfigError::new("LEDGER_SIGNING_KEY", rule);
        SigningKeys::parse(keys).map_err(wrong)?;
    }
    let verifier_keys = variables.text("LEDGER_VERIFIER_KEYS").unwrap_or_default();
    let verifier_keys = verifier_keys
        .split_whitespace()
        .map(|vkey| vkey.parse().map_err(|error| ConfigError::new("LEDGER_VERIFIER_KEYS", error)));
    let anchors = match variables.secret("LEDGER_ANCHORS")? {
        None => None,
        Some(urls) if urls.expose_secret() == NO_ANCHORS => Some(Vec::new()),
        Some(urls) => Some(
            urls.expose_secret()
                .split(',')
                .map(str::trim)
                .filter(|url| !url.is_empty())
                .map(|url| {
                    let wrong = |rule| ConfigError::new("LEDGER_ANCHORS", rule);
                    Anchor::parse(url, of_buckets).map_err(wrong)
                })
                .collect::<Result<_, _>>()?,
        ),
    };
    let every = match variables.parsed("LEDGER_CHECKPOINT_INTERVAL_S")? {
        None => Some(DEFAULT_CHECKPOINT_EVERY),
        Some(0) => None,
        Some(seconds) if seconds <= MAX_CHECKPOINT_EVERY_S => Some(Duration::from_secs(seconds)),
        Some(_) => {
            let rule = format!("is at most {MAX_CHECKPOINT_EVERY_S}");
            return Err(ConfigError::new("LEDGER_CHECKPOINT_INTERVAL_S", rule));
        }
    };
    let origin = variables.text("LEDGER_ORIGIN");
    if let Some(origin) = &origin
        && let Err(rule) = new_key(origin)
    {
        return Err(ConfigError::new("LEDGER_ORIGIN", rule));
    }
    Ok(CheckpointSettings {
        origin,
        signing_keys,
        verifier_keys: verifier_keys.collect::<Result<_, _>>()?,
        anchors,
        every,
        log_is_public: variables.parsed("LEDGER_LOG_PUBLIC")?.unwrap_or(false),
    })
}

/// The sources of the TOML file at this path.
fn sources(path: Option<String>) -> Result<Vec<Source>, ConfigError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let wrong = |rule: String| ConfigError::new("LEDGER_SOURCES", format!("{path}: {rule}"));
    let toml = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    parse_sources(&toml).map_err(wrong)
}

/// One secret a line, so that several can be in force during a rotation.
pub fn webhook_secrets(lines: Option<SecretString>) -> Result<Vec<WebhookSecret>, ConfigError> {
    let Some(lines) = lines else { return Ok(Vec::new()) };
    lines
        .expose_secret()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            WebhookSecret::new(line.into())
                .map_err(|error| ConfigError::new("LEDGER_WEBHOOK_SECRET", error))
        })
        .collect()
}

struct Variables(Vec<(String, String)>);

impl Variables {
    fn new(all: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let ours: Vec<_> = all
            .into_iter()
            .filter(|(name, _)| name.starts_with("LEDGER_") || name.starts_with("DATABASE_URL"))
            .collect();
        for (name, _) in &ours {
            let base = name.strip_suffix("_FILE").filter(|name| SECRETS.contains(name));
            let base = base.unwrap_or(name);
            // Variables of the tests and of docker images may start alike.
            if name.starts_with("LEDGER_")
                && !name.starts_with("LEDGER_TEST_")
                && !KNOWN.contains(&base)
            {
                return Err(ConfigError::new(name, "is not a setting of audit-ledger"));
            }
        }
        Ok(Self(ours))
    }

    /// A variable that is set and not empty.
    fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(found, _)| found == name)?;
        (!value.is_empty()).then(|| value.clone())
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, ConfigError>
    where
        T::Err: fmt::Display,
    {
        let parse = |text: String| text.parse().map_err(|error| ConfigError::new(name, error));
        self.text(name).map(parse).transpose()
    }

    /// The variable, or the content of the file that `…_FILE` names.
    fn secret(&self, name: &str) -> Result<Option<SecretString>, ConfigError> {
        let file = format!("{name}_FILE");
        match (self.text(name), self.text(&file)) {
            (Some(_), Some(_)) => Err(ConfigError::new(&file, format!("{name} is set too"))),
            (Some(value), None) => Ok(Some(value.into())),
            (None, Some(path)) => {
                let content = std::fs::read_to_string(&path)
                    .map_err(|error| ConfigError::new(&file, format!("{path}: {error}")))?;
                Ok(Some(content.trim_end_matches(['\r', '\n']).into()))
            }
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Config::from_variables(variables.iter().map(own))
    }

    #[test]
    fn defaults_need_nothing() {
        let config = config(&[("PATH", "/bin"), ("LEDGER_LISTEN", "")]).unwrap();
        assert!(config.database_url.is_none());
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.max_body_bytes, 262_144);
    }

    #[test]
    fn an_error_names_the_variable_and_never_the_secret() {
        for (name, value) in [
            ("LEDGER_LISTEN", "8080"),
            ("LEDGER_BATCH_SIZE", "0"),
            ("LEDGER_BATCH_SIZE", "many"),
            ("LEDGER_BATCH_DELAY_US", "1000000"),
            ("LEDGER_MAX_BODY_BYTES", "2000000"),
            ("LEDGER_HASH_ALGORITHM", "md5"),
            ("LEDGER_RATE_LIMIT_KEY_PER_S", "-1"),
            ("LEDGER_VERIFY_INTERVAL_S", "hourly"),
            ("LEDGER_VERIFY_INTERVAL_S", "99999999"),
            ("LEDGER_VERIFY_MODE", "some"),
            ("LEDGER_CHECKPOINT_INTERVAL_S", "3601"),
            ("LEDGER_LOG_PUBLIC", "maybe"),
            ("LEDGER_ORIGIN", "two words"),
            ("LEDGER_SIGNING_KEY", "PRIVATE+KEY+secret"),
            ("LEDGER_VERIFIER_KEYS", "example.com+00000000+AAAA"),
            ("LEDGER_ANCHORS", "file:relative"),
            ("LEDGER_ANCHORS", "ftp://user:password@example.com"),
            ("LEDGER_RATE_LIMIT_ADDRESS_PER_S", "1000001"),
            ("LEDGER_RETENTION_DAYS", "0"),
            ("LEDGER_RETENTION_DAYS", "36526"),
            ("LEDGER_RETENTION_DAYS", "six years"),
            ("LEDGER_WEBHOOK_SECRET", "short"),
            ("LEDGER_WEBHOOK_SECRET", "whsec_?"),
            ("LEDGER_SOURCES_FILE", "sources.toml"),
            ("LEDGER_SOURCES", "/nowhere/at/all"),
            ("LEDGER_TRUSTED_PROXIES", "10.0.0.0/8, proxy"),
            ("LEDGER_LISTNE", "127.0.0.1:80"),
            ("LEDGER_WEBHOOK_SECRET_FILE", "/nowhere/at/all"),
        ] {
            let error = config(&[(name, value)]).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
            let is_secret = SECRETS.contains(&name);
            assert!(!is_secret || !error.to_string().contains(value), "{error}");
        }
    }

    #[test]
    fn a_secret_is_taken_from_a_file_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first secret of two\nsecond secret of two\n").unwrap();
        let path = file.path().to_str().unwrap();
        let both = [("LEDGER_WEBHOOK_SECRET_FILE", path), ("LEDGER_WEBHOOK_SECRET", "x")];
        assert!(config(&both).is_err());
        let config = config(&both[..1]).unwrap();
        assert_eq!(config.webhook_secrets.len(), 2);
        let shown = format!("{config:?} {}", config.redacted());
        assert!(!shown.contains("secret of two"), "{shown}");
    }
}
