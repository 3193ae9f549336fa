//! The structure of the code, held by a test: who may import what, and the habits that every file keeps.

use std::fs;
use std::path::{Path, PathBuf};

/// Longer files have more than one role.
const LINES_MAX: usize = 500;

/// A name, and the only places that may use it.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("rocksdb::", &["storage-node/src/kv/"]),
    ("use raft::", &["storage-node/src/raft/"]),
    ("s3s::", &["gateway/src/s3/", "gateway/src/auth/", "gateway/src/http/", "gateway/src/detail.rs"]),
    ("crate::s3::", &["gateway/src/s3/", "gateway/src/http/second_pass.rs", "gateway/src/upload/"]),
    (
        "annulus_storage_node::",
        &["gateway/src/embedded.rs", "storage-node/src/main.rs", "storage-node/src/operations.rs", "tests/"],
    ),
    ("annulus_gateway::", &["gateway/src/main.rs", "tests/"]),
    ("SystemTime::now", &["common/src/clock.rs", "gateway/src/admin/client.rs", "gateway/src/http/tests.rs", "tests/"]),
];

/// The modules of the gateway, the lowest first: each imports those before it alone.
const GATEWAY_MODULES: &[&str] = &[
    "query",
    "cause",
    "gate",
    "budget",
    "request",
    "routes",
    "detail",
    "bucket_name",
    "sign",
    "tls",
    "client",
    "kms",
    "auth",
    "object",
    "steady",
    "access_log",
    "events",
    "s3",
    "http",
    "iam",
    "control",
    "upload",
    "admin",
    "operations",
    "embedded",
    "gateway",
    "cli",
];

/// Words that admit unfinished work.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX", "for now"];

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for crate_dir in ["common", "gateway", "storage-node", "tests"] {
        collect(&root().join(crate_dir), &mut found);
    }
    assert!(found.len() > 50, "the sources are not where this test looks");
    found
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("a source directory can be read") {
        let path = entry.expect("a directory entry can be read").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("sources lie in the workspace").display().to_string();
            let text = fs::read_to_string(&path).expect("a source file can be read");
            found.push(Source { path: name, text });
        }
    }
}

fn is_this_file(source: &Source) -> bool {
    source.path == "tests/tests/tidy.rs"
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn crates_depend_downwards_only() {
    let forbidden = [
        ("common", ["annulus-gateway", "annulus-storage-node", "annulus-tests"].as_slice()),
        ("storage-node", &["annulus-gateway", "annulus-tests"]),
        ("gateway", &["annulus-tests"]),
    ];
    for (crate_dir, upwards) in forbidden {
        let manifest = fs::read_to_string(root().join(crate_dir).join("Cargo.toml")).expect("a crate has a manifest");
        for name in upwards {
            assert!(!manifest.contains(name), "{crate_dir} must not depend on {name}");
        }
    }
}

#[test]
fn each_foreign_name_stays_behind_its_seam() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !is_this_file(source)) {
        for (name, places) in ONLY_IN {
            let code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
            if code.clone().any(|line| uses(line, name)) && !places.iter().any(|place| source.path.starts_with(place)) {
                broken.push(format!("{}: {name} belongs to {places:?}", source.path));
            }
        }
    }
    report(&broken);
}

#[test]
fn modules_of_the_gateway_depend_downwards_only() {
    let mut broken = Vec::new();
    for source in &sources() {
        let Some(path) = source.path.strip_prefix("gateway/src/") else { continue };
        let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some(place) = GATEWAY_MODULES.iter().position(|known| *known == module) else {
            broken.push(format!("{}: {module} has no place among GATEWAY_MODULES", source.path));
            continue;
        };
        let code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for above in &GATEWAY_MODULES[place + 1..] {
            if code.clone().any(|line| uses(line, &format!("crate::{above}::"))) {
                broken.push(format!("{}: {above} is above {module}", source.path));
            }
        }
    }
    report(&broken);
}

/// Whether a line uses the name as a path of its own, not as the end of a longer one.
fn uses(line: &str, name: &str) -> bool {
    line.match_indices(name)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':'))
}

#[test]
fn every_file_says_why_it_exists_and_stays_short() {
    let mut broken = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            broken.push(format!("{}: does not open with why it exists", source.path));
        }
        let is_test = source.path.contains("tests");
        let lines = source.text.lines().count();
        if lines > LINES_MAX && !is_test {
            broken.push(format!("{}: {lines} lines, more than {LINES_MAX}", source.path));
        }
    }
    report(&broken);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !is_this_file(source)) {
        for (number, line) in source.text.lines().enumerate() {
            broken.extend(
                UNFINISHED
                    .iter()
                    .filter(|word| has_word(line, word))
                    .map(|word| format!("{}:{}: {word}", source.path, number + 1)),
            );
        }
    }
    report(&broken);
}

/// Whether the words stand in the line by themselves: "for nowhere" is not "for now".
fn has_word(line: &str, word: &str) -> bool {
    line.split(word).skip(1).any(|after| !after.starts_with(|next: char| next.is_ascii_alphanumeric()))
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let table = manifest.split("[workspace.dependencies]").nth(1).expect("dependencies are declared once");
    let table = table.split("\n[").next().unwrap_or_default();
    let mut explained_above = false;
    for line in table.lines() {
        let is_dependency = line.contains(" = ") && !line.starts_with('#') && !line.starts_with("annulus-");
        assert!(!is_dependency || explained_above || line.contains(" # "), "no reason given: {line}");
        explained_above = line.starts_with('#') || (explained_above && is_dependency);
    }
}
