//! What the figures were measured on.

use std::fs::OpenOptions;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use sqlx::{Connection, PgConnection, Row};

/// The machine, the server and its disk.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    postgres: String,
    settings: Vec<(String, String)>,
    fsync_us: f64,
    /// What else the machine was doing: its load over the last minute.
    load: f64,
}

impl Machine {
    /// Looks at all of it; `folder` is on the database's disk.
    pub(crate) async fn look(
        superuser_url: &str,
        folder: &Path,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut connection = PgConnection::connect(superuser_url).await?;
        let rows = sqlx::query(
            "SELECT name, current_setting(name) AS setting FROM pg_catalog.pg_settings
             WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes',
                            'shared_buffers', 'max_wal_size', 'commit_delay') ORDER BY name",
        )
        .fetch_all(&mut connection)
        .await?;
        let mut settings = Vec::new();
        for row in rows {
            settings.push((row.try_get("name")?, row.try_get("setting")?));
        }
        let of = |wanted: &str| settings.iter().find(|(name, _)| name == wanted).cloned();
        let postgres = of("server_version").map(|(_, version)| version).unwrap_or_default();
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name"));
        let cpu = model.unwrap_or("unknown").trim_start_matches([' ', '\t', ':']).to_owned();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
        Ok(Self { cpu, cores, postgres, settings, fsync_us: fsync_us(folder)?, load })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} x {}, PostgreSQL {}", self.cores, self.cpu, self.postgres)?;
        writeln!(
            f,
            "one fsync of 8 KiB: {:.0} us (median of 200); load before: {:.2}",
            self.fsync_us, self.load
        )?;
        let settings: Vec<_> =
            self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "{}", settings.join(" "))
    }
}

/// The median time to write 8 KiB and have it on disk, in microseconds.
fn fsync_us(folder: &Path) -> std::io::Result<f64> {
    let path = folder.join("fsync-probe");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
    let page = [7_u8; 8192];
    let mut times = Vec::new();
    for _ in 0..200 {
        file.rewind()?;
        let started = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    Ok(median(&mut times))
}

/// The middle value.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
