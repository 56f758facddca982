//! The dashboard in a real Chromium, on the real service: each file in `tests/dashboard/specs` is run
//! on a ledger of its own. `scripts/test` gets what they need beside Rust.

mod common;
#[path = "serve/program.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod program;
#[path = "dashboard/scene.rs"]
mod scene;

use std::collections::BTreeSet;

use scene::{Scene, TESTS};

#[tokio::test]
async fn what_looks_for_problems_finds_them() {
    let mut scene = Scene::start().await;
    scene.run("harness.mjs").await;
    scene.finish_tampered().await;
}

#[tokio::test]
async fn the_frame_shows_who_looks_and_what_nobody_may_miss() {
    let mut scene = Scene::start().await;
    scene.run("frame.mjs").await;
    scene.finish().await;
}

#[tokio::test]
async fn the_page_and_its_files_are_served_as_they_must_be() {
    let mut scene = Scene::start().await;
    scene.run("served.mjs").await;
    scene.finish().await;
}

#[tokio::test]
async fn the_signal_feed_is_live_and_counts_what_it_shows() {
    let mut scene = Scene::start().await;
    scene.run("feed.mjs").await;
    scene.finish().await;
}

#[tokio::test]
async fn checks_are_run_and_shown_and_a_change_is_found() {
    let mut scene = Scene::start().await;
    scene.run("integrity.mjs").await;
    scene.finish_tampered().await;
}

#[tokio::test]
async fn a_lockdown_is_seen_and_lifted_by_two_admins() {
    let mut scene = Scene::start().await;
    scene.run("lockdown.mjs").await;
    scene.finish_tampered().await;
}

#[tokio::test]
async fn every_tab_is_drawn_accessible_and_fits_and_screenshots_are_made() {
    let mut scene = Scene::start().await;
    scene.run("dashboard.mjs").await;
    scene.finish().await;
}

#[tokio::test]
async fn the_audit_ledger_shows_every_row_as_it_is() {
    let mut scene = Scene::start().await;
    scene.run("ledger.mjs").await;
    scene.finish().await;
}

#[tokio::test]
async fn the_browser_itself_verifies_rows() {
    let mut scene = Scene::start().await;
    scene.run("verify.mjs").await;
    scene.finish_tampered().await;
}

#[tokio::test]
async fn exports_are_built_counted_and_downloaded() {
    let mut scene = Scene::start().await;
    scene.run("export.mjs").await;
    scene.finish().await;
}

#[tokio::test]
async fn rows_are_played_again_as_they_were_appended() {
    let mut scene = Scene::start().await;
    scene.run("replay.mjs").await;
    scene.finish().await;
}

#[tokio::test]
async fn quarantined_deliveries_are_shown_and_released() {
    let mut scene = Scene::start().await;
    scene.run("quarantine.mjs").await;
    scene.finish_tampered().await;
}

/// A spec without a test here would be run by nobody.
#[test]
fn every_spec_is_run() {
    let specs = std::fs::read_dir(format!("{TESTS}/specs")).unwrap();
    let specs: BTreeSet<String> =
        specs.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let calls = include_str!("dashboard.rs").split("scene.run(\"").skip(1);
    let run: BTreeSet<String> =
        calls.filter_map(|call| Some(call.split_once("\").await")?.0.to_owned())).collect();
    assert_eq!(run, specs);
}
