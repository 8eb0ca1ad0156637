//! `esker check-store`: tries whether a bucket is what Esker needs.
//!
//! Owns: the report, as a table or as JSON; a prefix of its own in the bucket.
//! Does not own: the properties and what to do about them (`esker_storage::check`).

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use esker_storage::bucket::{self, BucketSettings, BucketUrl};
use esker_storage::check::{CheckSettings, Finding, Property, Verdict, check};
use esker_storage::random::Random;
use esker_storage::retrying::{RetrySettings, Retrying};
use serde::Serialize;

use crate::{UsageError, stores};

/// Find out whether a bucket does what Esker needs, and what to do if it does not.
///
/// Writes about 1,100 small objects and one of 32 MiB below a prefix of its own (`check-store-…`) and deletes them again.
/// Credentials, region and endpoint come as the AWS SDK reads them; docs/object-stores.md has the names. Exit code 1 if
/// anything does not hold.
#[derive(Args, Debug)]
pub(crate) struct CheckStoreArgs {
    /// The bucket: s3://BUCKET[/PREFIX] or file:///DIR
    #[arg(long, value_name = "URL")]
    store: String,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// One line of the report as JSON.
#[derive(Serialize)]
struct Line {
    property: &'static str,
    outcome: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

#[derive(Serialize)]
struct Report {
    store: String,
    ok: bool,
    properties: Vec<Line>,
}

/// Tries everything and says what it found.
pub(crate) fn run(args: &CheckStoreArgs) -> anyhow::Result<()> {
    // Without the text itself: there may be a secret in it.
    let url: BucketUrl = args
        .store
        .parse()
        .map_err(|error| UsageError(format!("--store: {error}")))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let report = report(&url, runtime.block_on(findings(&url))?);
    let text = if args.json {
        serde_json::to_string_pretty(&report).context("cannot write the report")? + "\n"
    } else {
        table(&report)
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to stdout")?;
    anyhow::ensure!(report.ok, "{url} is not what Esker needs");
    Ok(())
}

async fn findings(url: &BucketUrl) -> anyhow::Result<Vec<Finding>> {
    let settings = BucketSettings::new(stores::wall_clock());
    let clock = settings.store_clock.clone();
    let bucket = bucket::open(url, settings)
        .await
        .with_context(|| format!("cannot open {url}"))?;
    let seed = u64::try_from(stores::random() & u128::from(u64::MAX)).expect("masked");
    // A single failure is nothing that Esker would notice.
    let store = Retrying::new(bucket, RetrySettings::default(), Random::new(seed));
    let settings = CheckSettings::new(format!("check-store-{seed:016x}"), seed);
    Ok(check(&store, &clock, &settings).await)
}

fn report(url: &BucketUrl, findings: Vec<Finding>) -> Report {
    let properties: Vec<_> = findings.into_iter().map(line).collect();
    Report {
        store: url.to_string(),
        ok: properties.iter().all(|line| line.outcome != FAILED),
        properties,
    }
}

const FAILED: &str = "FAILED";

fn line(Finding { property, verdict }: Finding) -> Line {
    let (outcome, detail) = match verdict {
        Verdict::Holds(detail) => ("ok", detail),
        Verdict::Fails(why) => (FAILED, why),
        Verdict::NotTried(why) => ("not tried", why.to_owned()),
    };
    Line {
        property: property.name(),
        outcome,
        detail,
        advice: (outcome == FAILED).then(|| property.advice()),
    }
}

fn table(report: &Report) -> String {
    let width = Property::ALL
        .iter()
        .map(|property| property.name().len())
        .max()
        .unwrap_or_default();
    let mut text = format!("{:width$}  {}\n", "store", report.store);
    for line in &report.properties {
        let Line {
            property,
            outcome,
            detail,
            advice,
        } = line;
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{property:width$}  {outcome:9}  {detail}");
        if let Some(advice) = advice {
            let _ = writeln!(text, "{:width$}  → {advice}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(store: &str) -> CheckStoreArgs {
        CheckStoreArgs {
            store: store.to_owned(),
            json: false,
        }
    }

    fn files(dir: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }

    #[test]
    fn a_local_directory_has_every_property() {
        let dir = tempfile::tempdir().unwrap();
        run(&args(&format!("file://{}", dir.path().display()))).unwrap();
        assert_eq!(files(dir.path()), 0, "nothing is left");
    }

    #[test]
    fn a_word_that_is_no_bucket_is_a_mistake_in_the_arguments_and_not_repeated() {
        let refused = run(&args("s3://id:hunter2@bucket")).unwrap_err();
        assert!(refused.is::<UsageError>());
        assert!(!format!("{refused:#}").contains("hunter2"));
    }

    #[test]
    fn the_table_says_what_to_do_about_a_failure() {
        let url = "s3://flights".parse().unwrap();
        let findings = vec![
            Finding {
                property: Property::WriteAndRead,
                verdict: Verdict::Holds("1 ms a request".to_owned()),
            },
            Finding {
                property: Property::Clock,
                verdict: Verdict::Fails("90 s apart".to_owned()),
            },
        ];
        let report = report(&url, findings);
        assert!(!report.ok);
        let text = table(&report);
        assert!(text.contains("clock             FAILED     90 s apart\n"), "{text}");
        assert!(text.contains(Property::Clock.advice()), "{text}");
    }
}
