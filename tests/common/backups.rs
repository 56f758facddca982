//! Copies of a ledger, as a backup is one, and a ledger that one of them takes the place of.

use std::path::Path;

use audit_ledger::clock::Clock;

use super::dump::{postgres, url};
use super::{
    TestLedger, connect_with, copy_database_rights, drop_statement, fetch, run, template,
    wait_until,
};

impl TestLedger {
    /// Another ledger that is what this one is now. Every session on this one is ended.
    pub(crate) async fn copy(&self) -> Self {
        let mut server = connect_with(&self.options.clone().database("postgres")).await;
        let name = format!("ledger_test_{}", Clock::system().new_id().simple());
        let of_this = format!("FROM pg_stat_activity WHERE datname = '{}'", self.name);
        let end = format!("SELECT count(pg_terminate_backend(pid)) {of_this}");
        fetch::<i64>(&mut server, &end).await;
        wait_until(&mut server, &format!("SELECT NOT EXISTS (SELECT {of_this})")).await;
        run(&mut server, &format!("CREATE DATABASE {name} TEMPLATE {}", self.name)).await;
        run(&mut server, &copy_database_rights(&self.name, &name)).await;
        Self { options: self.options.clone().database(&name), name, dropped: false }
    }

    /// Puts a backup in this ledger's place, as who restores one does.
    pub(crate) async fn restore(&self, mut backup: Self) {
        let mut server = connect_with(&self.options.clone().database("postgres")).await;
        run(&mut server, &drop_statement(&self.name)).await;
        let (from, to) = (&backup.name, &self.name);
        run(&mut server, &format!("ALTER DATABASE {from} RENAME TO {to}")).await;
        backup.dropped = true;
    }

    /// Dumps this ledger into a file.
    pub(crate) fn dump(&self, file: &Path) {
        let arguments = ["--format=custom", "--file", file.to_str().unwrap(), "--dbname"];
        postgres("pg_dump", &[&arguments[..], &[&url(&self.options)]].concat());
    }

    /// Restores a dump in this ledger's place.
    pub(crate) async fn restore_dump(&self, file: &Path) {
        let options = self.options.clone().database("postgres");
        let mut server = connect_with(&options).await;
        run(&mut server, &drop_statement(&self.name)).await;
        run(&mut server, &format!("CREATE DATABASE {}", self.name)).await;
        postgres("pg_restore", &["--dbname", &url(&self.options), file.to_str().unwrap()]);
        let template = template(&options).await;
        run(&mut server, &copy_database_rights(&template, &self.name)).await;
    }
}
