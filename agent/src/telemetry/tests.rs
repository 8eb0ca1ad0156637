//! What `/metrics` shows, before and after something happened.

use super::*;

fn page_after(act: impl FnOnce()) -> String {
    let (recorder, page) = recorder().unwrap();
    metrics::with_local_recorder(&recorder, act);
    page.render()
}

#[test]
fn counters_and_gauges_are_there_before_anything_happens() {
    let page = page_after(|| ());
    for line in [
        "# TYPE esker_store_requests_total counter",
        "esker_store_requests_total{op=\"put\",outcome=\"ok\"} 0",
        "esker_store_requests_total{op=\"head\",outcome=\"unknown\"} 0",
        "esker_store_bytes_total{op=\"get\"} 0",
        "esker_commits_total{outcome=\"committed\"} 0",
        "esker_unmerged_entries 0",
        "# TYPE process_cpu_seconds_total counter",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    assert!(page.contains("\nprocess_resident_memory_bytes "));
}

#[test]
fn histograms_have_the_buckets_of_the_catalogue() {
    let page = page_after(|| metrics::histogram!("esker_commit_seconds").record(0.003));
    assert!(page.contains("esker_commit_seconds_bucket{le=\"0.002\"} 0\n"), "{page}");
    assert!(page.contains("esker_commit_seconds_bucket{le=\"0.005\"} 1\n"), "{page}");
    assert!(page.contains("esker_commit_seconds_count 1\n"), "{page}");
}

#[test]
fn every_metric_has_help_and_a_name_that_says_its_unit() {
    for metric in METRICS {
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        assert_eq!(
            metric.kind == Kind::Counter,
            metric.name.ends_with("_total"),
            "{}",
            metric.name
        );
        let says = |unit: &str| metric.name.contains(unit);
        assert_eq!(metric.unit == Unit::Seconds, says("_seconds"), "{}", metric.name);
        assert_eq!(metric.unit == Unit::Bytes, says("_bytes"), "{}", metric.name);
    }
}

#[test]
fn labels_span_a_bounded_set() {
    let series = |of_grpc: bool| -> usize {
        let metrics = METRICS
            .iter()
            .filter(|metric| metric.name.starts_with("esker_grpc_") == of_grpc);
        metrics.map(|metric| catalogue::combinations(metric.labels).len()).sum()
    };
    assert!(series(false) <= 150, "{} series", series(false));
    // Every code of each method is counted.
    assert!(series(true) <= 410, "{} series of gRPC", series(true));
}
