//! Finding PostgreSQL's server programs on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::OLDEST_MAJOR;
use super::error::PostgresError;

/// A folder with `postgres` and `initdb`, and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

/// The first usable folder: `explicit` or none where that is given, else what `pg_config` names,
/// PATH, the usual install folders. `existing` is a cluster and the major version that made it.
pub(super) fn find(
    explicit: Option<&Path>,
    existing: Option<(&Path, u32)>,
) -> Result<Binaries, PostgresError> {
    if let Some(bindir) = explicit {
        let bad = || PostgresError::BadBindir { bindir: bindir.to_owned() };
        let binaries = examine(bindir).ok_or_else(bad)?;
        return choose(std::iter::once(binaries), existing);
    }
    choose(usual_folders().filter_map(|dir| examine(&dir)), existing)
}

/// The first of `found` that is new enough and fits the `existing` cluster. Later ones are not
/// even looked at, which would cost a process each.
fn choose(
    found: impl Iterator<Item = Binaries>,
    existing: Option<(&Path, u32)>,
) -> Result<Binaries, PostgresError> {
    let mut unfit: Vec<String> = Vec::new();
    for binaries in found {
        let fits = existing.is_none_or(|(_, made_by)| made_by == binaries.major);
        if binaries.major >= OLDEST_MAJOR && fits {
            return Ok(binaries);
        }
        let described = format!("{} in {}", binaries.major, binaries.dir.display());
        if !unfit.contains(&described) {
            unfit.push(described);
        }
    }
    if unfit.is_empty() {
        return Err(PostgresError::NoBinaries);
    }
    let found = unfit.join(", ");
    Err(match existing {
        Some((pgdata, made_by)) if made_by >= OLDEST_MAJOR => {
            PostgresError::VersionMismatch { pgdata: pgdata.to_owned(), made_by, found }
        }
        Some((pgdata, made_by)) => {
            let found = format!("{found}, and {OLDEST_MAJOR} or newer is needed");
            PostgresError::VersionMismatch { pgdata: pgdata.to_owned(), made_by, found }
        }
        None => PostgresError::TooOld { oldest: OLDEST_MAJOR, found },
    })
}

/// Both programs must be there: Debian and others ship clients, and `pg_config`, alone.
fn examine(dir: &Path) -> Option<Binaries> {
    // Programs are started with another working folder.
    let dir = std::path::absolute(dir).ok()?;
    if !dir.join("initdb").is_file() || !dir.join("postgres").is_file() {
        return None;
    }
    let major = parse_major(&first_line(Command::new(dir.join("postgres")).arg("--version"))?)?;
    Some(Binaries { dir, major })
}

/// `postgres (PostgreSQL) 17.2 (Debian …)` is 17; `18beta1` is 18.
fn parse_major(version_line: &str) -> Option<u32> {
    let version = version_line.split_whitespace().nth(2)?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

fn usual_folders() -> impl Iterator<Item = PathBuf> {
    let by_pg_config =
        std::iter::once_with(|| first_line(Command::new("pg_config").arg("--bindir")))
            .flatten()
            .map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    by_pg_config.chain(on_path).chain(std::iter::once_with(install_folders).flatten())
}

fn install_folders() -> Vec<PathBuf> {
    let mut folders = versioned("/usr/lib/postgresql", "", "bin");
    folders.push("/usr/bin".into());
    folders.extend(versioned("/usr", "pgsql-", "bin"));
    for homebrew in ["/opt/homebrew/opt", "/usr/local/opt"] {
        folders.extend(versioned(homebrew, "postgresql@", "bin"));
        folders.push(Path::new(homebrew).join("postgresql/bin"));
    }
    let app = "/Applications/Postgres.app/Contents/Versions";
    folders.push(Path::new(app).join("latest/bin"));
    folders.extend(versioned(app, "", "bin"));
    folders
}

/// `<parent>/<prefix><number>/<rest>` for each such folder there is, the highest number first.
fn versioned(parent: &str, prefix: &str, rest: &str) -> Vec<PathBuf> {
    let mut numbered: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(rest)))
        })
        .collect();
    numbered.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    numbered.into_iter().map(|(_, folder)| folder).collect()
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|out| out.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(majors: &[u32]) -> impl Iterator<Item = Binaries> {
        majors.iter().map(|&major| Binaries { dir: format!("/pg/{major}").into(), major })
    }

    #[test]
    fn reads_versions() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("postgres (PostgreSQL) 19"), Some(19));
        assert_eq!(parse_major("postgres"), None);
        assert_eq!(parse_major("postgres (PostgreSQL) devel"), None);
    }

    #[test]
    fn takes_the_first_that_will_do() {
        let data = Path::new("/data");
        assert_eq!(choose(installed(&[14, 16, 17]), None).unwrap().major, 16);
        assert_eq!(choose(installed(&[17, 15]), Some((data, 15))).unwrap().major, 15);
    }

    #[test]
    fn says_what_it_found_instead() {
        let data = Path::new("/data");
        let error = choose(installed(&[17, 17]), Some((data, 15))).unwrap_err().to_string();
        let expected = "the data in /data was made by PostgreSQL 15, found only 17 in /pg/17:";
        assert!(error.starts_with(expected), "{error}");
        let error = choose(installed(&[13]), None).unwrap_err().to_string();
        assert!(error.starts_with("PostgreSQL 15 or newer is needed, found only 13 in"), "{error}");
        assert!(matches!(choose(installed(&[]), None), Err(PostgresError::NoBinaries)));
    }
}
