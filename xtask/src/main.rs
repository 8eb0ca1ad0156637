//! Project chores: `cargo xtask <chore>`.

mod ci;
mod codegen;
mod reference;
mod tidy;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask ci [--list | STEP...] | codegen [--check] | reference | tidy";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run(&args).unwrap_or_else(|error| {
        // Nothing can be done about a stderr that is gone.
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: &[&str]) -> Result<ExitCode> {
    match args {
        ["ci", rest @ ..] => return ci::run(rest),
        ["codegen"] => codegen::run(codegen::Mode::Write)?,
        ["codegen", "--check"] => codegen::run(codegen::Mode::Check)?,
        ["reference"] => reference::write()?,
        ["tidy"] => tidy::run(&root())?,
        _ => bail!("{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the repository is.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
