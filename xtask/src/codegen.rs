//! Generates `proto/kafka/src/generated/` from Kafka's message definitions in `proto/kafka/messages/`.
//!
//! Owns: the text of the generated files, and the check that the committed ones are up to date.
//! Does not own: the definitions (Apache Kafka's, copied unchanged), the primitives that generated code calls
//! (`esker_kafka::wire`).

mod api_keys;
mod decode;
mod emit;
mod encode;
mod json;
mod model;
mod schema;
mod sizes;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use self::model::Message;

/// What to do with the generated text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Write the files.
    Write,
    /// Fail if the files on disk differ.
    Check,
}

/// Generates all files and writes or checks them.
pub(crate) fn run(mode: Mode) -> Result<()> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/kafka");
    let messages = load(&crate_dir.join("messages"))?;
    let mut files = BTreeMap::new();
    for message in &messages {
        let text = format(&emit::message(message)?).with_context(|| format!("formatting {}", message.name))?;
        files.insert(crate_dir.join(format!("src/generated/{}.rs", message.module)), text);
    }
    files.insert(crate_dir.join("src/generated/mod.rs"), format(&emit::index(&messages))?);
    files.insert(
        crate_dir.join("src/generated/api_key.rs"),
        format(&api_keys::emit(&messages)?)?,
    );
    files.insert(
        crate_dir.join("tests/schema/messages.rs"),
        format(&emit::test_table(&messages))?,
    );
    match mode {
        Mode::Write => write(&crate_dir, &files),
        Mode::Check => check(&crate_dir, &files),
    }
}

/// Every message definition that has a version, in name order.
fn load(dir: &Path) -> Result<Vec<Message>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut messages = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let schema = schema::parse(&text).with_context(|| format!("parsing {}", path.display()))?;
        if let Some(message) = model::resolve(schema).with_context(|| format!("resolving {}", path.display()))? {
            messages.push(message);
        }
    }
    ensure!(!messages.is_empty(), "no message definitions in {}", dir.display());
    Ok(messages)
}

fn write(crate_dir: &Path, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    let mut changed = 0;
    for (path, text) in files {
        if fs::read_to_string(path).ok().as_deref() != Some(text) {
            fs::create_dir_all(path.parent().context("generated files are in a directory")?)?;
            fs::write(path, text)?;
            changed += 1;
        }
    }
    for path in stale(crate_dir, files)? {
        fs::remove_file(path)?;
    }
    report(&format!("{} files, {changed} changed", files.len()))
}

fn check(crate_dir: &Path, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    for (path, text) in files {
        if fs::read_to_string(path).ok().as_deref() != Some(text) {
            bail!("{} is out of date: run `cargo xtask codegen`", path.display());
        }
    }
    if let Some(path) = stale(crate_dir, files)?.first() {
        bail!("{} has no definition: run `cargo xtask codegen`", path.display());
    }
    report(&format!("{} files up to date", files.len()))
}

fn report(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Files in the generated directory that no definition asks for.
fn stale(crate_dir: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let dir = crate_dir.join("src/generated");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if !files.contains_key(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Runs `rustfmt` over one file's text, with the workspace's settings.
fn format(text: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting rustfmt")?;
    child
        .stdin
        .take()
        .context("rustfmt has a standard input")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "rustfmt failed on:\n{text}");
    Ok(String::from_utf8(output.stdout)?)
}
