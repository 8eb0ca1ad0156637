//! Project chores: `cargo xtask <chore>`.

mod ci;
mod codegen;
mod reference;
mod tidy;

use std::path::PathBuf;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask ci [--list | STEP...] | codegen [--check] | reference | tidy";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["codegen"] => codegen::run(codegen::Mode::Write),
        ["codegen", "--check"] => codegen::run(codegen::Mode::Check),
        ["ci", rest @ ..] => ci::run(rest),
        ["reference"] => reference::write(),
        ["tidy"] => tidy::run(&root()),
        _ => bail!("{USAGE}"),
    }
}

/// Where the repository is.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
