//! Operating system users: who runs the service, who runs PostgreSQL (which refuses root), and
//! what that user can reach.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::PostgresError;

/// A user of the operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OsUser {
    /// `None` for the owner of data that came from another machine.
    pub(super) name: Option<String>,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl OsUser {
    /// For messages.
    pub(super) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("of id {}", self.uid))
    }

    /// Makes `command` run as this user. Where we are root, the standard library then also clears
    /// the supplementary groups; where we are not, we are this user already.
    pub(super) fn apply(&self, command: &mut Command) {
        if is_root() {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives `path` itself (never what a link points to) to this user, where we are root.
    pub(super) fn give(&self, path: &Path) -> Result<(), PostgresError> {
        if is_root() {
            lchown(path, Some(self.uid), Some(self.gid))
                .map_err(PostgresError::io("give away (chown)", path))?;
        }
        Ok(())
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The user that runs this process.
pub(super) fn current() -> OsUser {
    let uid = rustix::process::geteuid().as_raw();
    lookup(&uid.to_string()).unwrap_or_else(|| OsUser {
        name: None,
        uid,
        gid: rustix::process::getegid().as_raw(),
    })
}

/// The user that runs (or would run) PostgreSQL on `pgdata`: ourselves, or where we are root the
/// owner of the data, else `postgres`, else `nobody`.
pub(super) fn server_user(pgdata: &Path) -> Result<OsUser, PostgresError> {
    let owner = fs::metadata(pgdata).ok().map(|data| (data.uid(), data.gid()));
    if is_root() {
        return match owner {
            Some((uid, gid)) if uid != 0 => {
                Ok(lookup(&uid.to_string()).unwrap_or(OsUser { name: None, uid, gid }))
            }
            _ => lookup("postgres").or_else(|| lookup("nobody")).ok_or(PostgresError::NoUser),
        };
    }
    let me = current();
    match owner {
        Some((uid, gid)) if uid != me.uid => {
            let owner = lookup(&uid.to_string()).unwrap_or(OsUser { name: None, uid, gid });
            let owner = format!("the user {}", owner.label());
            Err(PostgresError::ForeignData { pgdata: pgdata.to_owned(), owner })
        }
        _ if me.name.is_none() => Err(PostgresError::NamelessUser { uid: me.uid }),
        _ => Ok(me),
    }
}

/// The user with this name or (in digits) id. `getent` knows users of LDAP and the like too, `id`
/// those of macOS, which has no `getent`.
pub(super) fn lookup(name_or_uid: &str) -> Option<OsUser> {
    output_of("getent", &["passwd", name_or_uid])
        .and_then(|line| parse_passwd(&line, name_or_uid))
        .or_else(|| parse_passwd(&fs::read_to_string("/etc/passwd").ok()?, name_or_uid))
        .or_else(|| {
            Some(OsUser {
                name: Some(output_of("id", &["-un", name_or_uid])?),
                uid: output_of("id", &["-u", name_or_uid])?.parse().ok()?,
                gid: output_of("id", &["-g", name_or_uid])?.parse().ok()?,
            })
        })
}

/// Finds a user in the format of passwd(5): `name:password:uid:gid:…`.
fn parse_passwd(text: &str, name_or_uid: &str) -> Option<OsUser> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?;
        let gid = fields.next()?.parse().ok()?;
        (name == name_or_uid || uid == name_or_uid)
            .then(|| Some(OsUser { name: Some(name.to_owned()), uid: uid.parse().ok()?, gid }))?
    })
}

fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The outermost folder on the way to and including `dir` that `user` may not enter. Folders that
/// do not exist yet count as open: we will make them so.
pub(super) fn closed_folder(dir: &Path, user: &OsUser) -> Option<PathBuf> {
    let mut on_the_way: Vec<_> = dir.ancestors().collect();
    on_the_way.reverse();
    on_the_way
        .into_iter()
        .find(|folder| {
            fs::metadata(folder).is_ok_and(|data| {
                // The permission bits do not know of access control lists; the kernel does, but
                // asking it costs a process, so only where the bits say no.
                !bits_let_in(&data, user) && !kernel_lets_in(folder, user)
            })
        })
        .map(Path::to_owned)
}

fn bits_let_in(folder: &fs::Metadata, user: &OsUser) -> bool {
    let search = if folder.uid() == user.uid {
        0o100
    } else if folder.gid() == user.gid {
        0o010
    } else {
        0o001
    };
    folder.mode() & search != 0
}

fn kernel_lets_in(folder: &Path, user: &OsUser) -> bool {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"cd -- "$1""#, "sh"]).arg(folder).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    user.apply(&mut command);
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_users_by_name_and_by_id() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\npg:x:101:104:,,,:/var:/bin/sh\n";
        let pg = OsUser { name: Some("pg".to_owned()), uid: 101, gid: 104 };
        assert_eq!(parse_passwd(passwd, "pg"), Some(pg.clone()));
        assert_eq!(parse_passwd(passwd, "101"), Some(pg));
        assert_eq!(parse_passwd(passwd, "104"), None);
        assert_eq!(parse_passwd(passwd, ""), None);
    }

    #[test]
    fn knows_itself() {
        let me = current();
        assert_eq!(me.uid, rustix::process::geteuid().as_raw());
        assert_eq!(closed_folder(Path::new("/"), &me), None);
    }
}
