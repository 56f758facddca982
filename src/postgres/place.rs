//! Where the cluster lies: the data folder and what is in it, the socket's folder, the lock.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::PostgresError;
use super::user::{self, OsUser};
use super::{PORT, Settings};

/// The longest path of a Unix socket, in bytes: `sockaddr_un.sun_path` less its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Parent of the socket folders of data folders whose own path is unfit. Not `TMPDIR`: it may
/// differ between the service and a command beside it, which must arrive at the same folder.
const TEMP_DIR: &str = "/tmp";

/// Parent of the data folders of a root that may not keep them in the default place.
const SYSTEM_DATA_DIR: &str = "/var/lib/audit-ledger";

/// The paths of one cluster; all absolute.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) data_dir: PathBuf,
    pub(super) pgdata: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) log: PathBuf,
    lock: PathBuf,
}

/// The absolute data folder that `settings` lead to, the same for every process that has them.
///
/// That is `settings.data_dir`, with one exception. PostgreSQL refuses to run as root, and the
/// user that runs it instead may be unable to reach the default folder (in a clone under `/root`,
/// say). Then it is a folder under `/var/lib/audit-ledger`, named by a hash of the default one;
/// and once there is a cluster there, it stays there whoever asks.
///
/// # Errors
///
/// [`PostgresError::Unreachable`] where the folder was set explicitly and that user cannot reach
/// it; [`PostgresError::NoUser`] where there is no such user.
pub fn resolve_data_dir(settings: &Settings) -> Result<PathBuf, PostgresError> {
    let wanted = canonical(&settings.data_dir)?;
    let system = Path::new(SYSTEM_DATA_DIR).join(&path_digest(&wanted)[..16]);
    if !settings.explicit_data_dir && Place::at(system.clone()).pgdata.exists() {
        return Ok(system);
    }
    if !user::is_root() {
        return Ok(wanted);
    }
    let pgdata = Place::at(wanted.clone()).pgdata;
    let server_user = user::server_user(&pgdata)?;
    // Through the cluster's real path where there is one: `postgres` may be a link.
    let parent = fs::canonicalize(&pgdata).ok().and_then(|real| real.parent().map(Path::to_owned));
    let closed = user::closed_folder(&wanted, &server_user)
        .or_else(|| user::closed_folder(&parent?, &server_user));
    match closed {
        None => Ok(wanted),
        Some(_) if !settings.explicit_data_dir => Ok(system),
        Some(closed) => {
            let user = server_user.label();
            Err(PostgresError::Unreachable { closed, data_dir: wanted, user })
        }
    }
}

/// Absolute and free of links as far as it exists, so that making it does not change the answer.
fn canonical(path: &Path) -> Result<PathBuf, PostgresError> {
    let absolute = std::path::absolute(path).map_err(PostgresError::io("locate", path))?;
    for existing in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(existing), absolute.strip_prefix(existing))
        {
            // `join` with an empty rest would leave a slash at the end.
            return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
        }
    }
    Ok(absolute)
}

/// SHA-256 of the path's bytes, in hex.
fn path_digest(path: &Path) -> String {
    hex::encode(Sha256::digest(path.as_os_str().as_bytes()))
}

/// `.s.PGSQL.5432`, as PostgreSQL names its socket.
fn socket_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

impl Place {
    /// `data_dir` as [`resolve_data_dir`] returns it.
    pub(super) fn at(data_dir: PathBuf) -> Self {
        Self {
            pgdata: data_dir.join("postgres"),
            socket_dir: socket_dir(&data_dir),
            log: data_dir.join("postgres.log"),
            lock: data_dir.join("service.lock"),
            data_dir,
        }
    }

    /// Whether `data_dir`, as configured, leads here.
    pub(super) fn is_at(&self, data_dir: &Path) -> bool {
        canonical(data_dir).is_ok_and(|canonical| canonical == self.data_dir)
    }

    /// A name that only this cluster's processes have in their titles and command lines.
    pub(super) fn mark(&self) -> String {
        format!("ledger-{}", &path_digest(&self.data_dir)[..16])
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.socket_dir.join(socket_name())
    }

    /// The file beside the socket that names its server.
    pub(super) fn socket_lock(&self) -> PathBuf {
        self.socket_dir.join(format!("{}.lock", socket_name()))
    }

    /// Made by root, it is open to passing through whatever the umask says, as another user's
    /// PostgreSQL lives in it; what it holds is closed. Made by others, it is private.
    pub(super) fn create_data_dir(&self) -> Result<(), PostgresError> {
        let missing: Vec<_> = self.data_dir.ancestors().take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            let innermost = dir == self.data_dir;
            let mode = match (user::is_root(), innermost) {
                (true, true) => 0o711,
                (_, false) => 0o755,
                (false, true) => 0o700,
            };
            match DirBuilder::new().mode(mode).create(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(PostgresError::io("create", dir)(error));
                }
                Ok(()) if user::is_root() => {
                    fs::set_permissions(dir, Permissions::from_mode(mode))
                        .map_err(PostgresError::io("set the permissions of", dir))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the lock's file, and does not lock it yet.
    pub(super) fn open_lock(&self) -> Result<File, PostgresError> {
        self.open_own(&self.lock, OpenOptions::new().read(true).write(true))
    }

    /// The server's log, for appending.
    pub(super) fn open_log(&self) -> Result<File, PostgresError> {
        self.open_own(&self.log, OpenOptions::new().append(true))
    }

    /// Opens or makes one of our files in the data folder. Links are not followed and the file
    /// goes to the folder's owner: root may be at work in another user's folder.
    fn open_own(&self, path: &Path, options: &mut OpenOptions) -> Result<File, PostgresError> {
        let file = options
            .create(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(PostgresError::io("open", path))?;
        if user::is_root() {
            let owner = fs::metadata(&self.data_dir)
                .map_err(PostgresError::io("look at", &self.data_dir))?;
            fchown(&file, Some(owner.uid()), Some(owner.gid()))
                .map_err(PostgresError::io("give away (chown)", path))?;
        }
        Ok(file)
    }

    /// Takes the lock if it is free, and writes our process id for others' messages. The kernel
    /// takes it back when the file is closed, be it by a kill -9.
    pub(super) fn try_lock(&self, mut lock: &File) -> Result<bool, PostgresError> {
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => {
                return Err(PostgresError::io("lock", &self.lock)(error));
            }
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(PostgresError::io("write", &self.lock))?;
        Ok(true)
    }

    /// Who holds the lock, for messages.
    pub(super) fn owner(&self) -> String {
        let mut text = String::new();
        let read = File::open(&self.lock).and_then(|file| file.take(32).read_to_string(&mut text));
        match (read, text.trim().parse::<u32>()) {
            (Ok(_), Ok(pid)) => format!("pid {pid}"),
            _ => "pid unknown".to_owned(),
        }
    }

    /// Makes the socket's folder, private to `server_user`, or checks the one that is there.
    pub(super) fn make_socket_dir(&self, server_user: &OsUser) -> Result<(), PostgresError> {
        let dir = &self.socket_dir;
        match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => server_user.give(dir)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Root's own: it ended between making the folder and giving it away, or `run`
                // came back from a backup.
                let data = fs::symlink_metadata(dir).map_err(PostgresError::io("look at", dir))?;
                if user::is_root() && data.is_dir() && data.uid() == 0 {
                    server_user.give(dir)?;
                }
            }
            Err(error) => return Err(PostgresError::io("create", dir)(error)),
        }
        self.check_socket_dir().map(drop)
    }

    /// Whether the socket's folder is there; an error if it is not private to the user that runs
    /// PostgreSQL, as anybody may have made it under /tmp and put a socket of his own there.
    pub(super) fn check_socket_dir(&self) -> Result<bool, PostgresError> {
        let path = &self.socket_dir;
        let data = match fs::symlink_metadata(path) {
            Ok(data) => data,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(PostgresError::io("look at", path)(error)),
        };
        // Looked up now: the cluster's owner may have just made it, for another user.
        let server_user = user::server_user(&self.pgdata)?;
        if user::is_root() && data.is_dir() && data.uid() == 0 && server_user.uid != 0 {
            // Its maker, root too, is about to give it away.
            return Ok(false);
        }
        let problem = if !data.is_dir() {
            "is not a folder".to_owned()
        } else if data.uid() != server_user.uid {
            format!("belongs to user id {}, not to the user {}", data.uid(), server_user.label())
        } else if data.mode() & 0o022 != 0 {
            format!("can be written by others (mode {:o})", data.mode() & 0o7777)
        } else {
            return Ok(true);
        };
        Err(PostgresError::SocketDir { path: path.clone(), problem })
    }
}

fn socket_dir(data_dir: &Path) -> PathBuf {
    let run = data_dir.join("run");
    if fits_a_socket(run.as_os_str()) {
        return run;
    }
    Path::new(TEMP_DIR).join(format!("audit-ledger-{}", &path_digest(data_dir)[..32]))
}

/// Short enough for a socket, one item in PostgreSQL's and libpq's lists of folders, and
/// something that can stand in a URL.
fn fits_a_socket(dir: &OsStr) -> bool {
    dir.len() + "/".len() + socket_name().len() <= SOCKET_PATH_BYTES_MAX
        && dir.to_str().is_some_and(|text| !text.contains([',', '"', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_paths_end_at_the_limit() {
        let longest = SOCKET_PATH_BYTES_MAX - "//run/.s.PGSQL.5432".len();
        let fits = PathBuf::from(format!("/{}", "x".repeat(longest)));
        assert_eq!(socket_dir(&fits), fits.join("run"));
        let too_long = PathBuf::from(format!("/{}", "x".repeat(longest + 1)));
        let elsewhere = socket_dir(&too_long);
        assert!(elsewhere.starts_with(TEMP_DIR), "{}", elsewhere.display());
        assert_eq!(elsewhere, socket_dir(&too_long));
        assert_ne!(elsewhere, socket_dir(&too_long.join("y")));
        assert!(socket_dir(Path::new("/a,b")).starts_with(TEMP_DIR));
    }

    #[test]
    fn making_a_folder_does_not_move_it() {
        let parent = tempfile::tempdir().unwrap();
        let real = parent.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        let dir = real.join("link/a/b");
        let before = canonical(&dir).unwrap();
        assert_eq!(before, real.join("a/b"));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(canonical(&dir).unwrap(), before);
        assert_eq!(canonical(&real).unwrap(), real);
    }
}
