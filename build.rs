//! The migrations and the dashboard's files are embedded by macros, which cargo cannot see through.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    // A debug build reads the dashboard's files from the disk as they are.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo:rerun-if-changed=src/ui");
    }
}
