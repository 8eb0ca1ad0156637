//! Project chores: `cargo xtask <chore>`.

mod codegen;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask codegen [--check]";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["codegen"] => codegen::run(codegen::Mode::Write),
        ["codegen", "--check"] => codegen::run(codegen::Mode::Check),
        _ => bail!("{USAGE}"),
    }
}
