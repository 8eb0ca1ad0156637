//! Whether etcd is set up so that it can bear a cluster.
//!
//! Owns: what is asked, and which answers are worrying. Reads `/metrics` where it is open, for what etcd's API does not tell.
//! Does not own: doing anything about it.

use etcd_client::{AlarmAction, AlarmType, Client, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::options;
use super::settings::EtcdSettings;

/// A checkpoint's records, the history of records removed, and what etcd needs to compact: twice that is comfortable.
const QUOTA_BYTES_MIN: u64 = 512 << 20;
/// Transactions that etcd may keep in memory before it takes a snapshot; its own default since 3.6 is 10,000.
const SNAPSHOT_COUNT_MAX: u64 = 20_000;
/// Most bytes of `/metrics` that are read.
const METRICS_BYTES_MAX: u64 = 4 << 20;

/// What one member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberHealth {
    /// Where it was asked.
    pub endpoint: String,
    /// Its version.
    pub version: String,
    /// Size of its database file.
    pub database_bytes: u64,
    /// What of it is in use; the rest is free for new data, or for whoever defragments.
    pub in_use_bytes: u64,
    /// How large the database may become; `None` if it cannot be told.
    pub quota_bytes: Option<u64>,
    /// Alarms of the cluster, by name.
    pub alarms: Vec<&'static str>,
    /// Transactions since it was started, and snapshots among them.
    pub applied_and_snapshots: Option<(u64, u64)>,
    /// Its memory.
    pub resident_bytes: Option<u64>,
}

impl MemberHealth {
    /// What somebody should do something about.
    #[must_use]
    pub fn worries(&self) -> Vec<String> {
        let mut worries = Vec::new();
        for alarm in &self.alarms {
            worries.push(format!(
                "alarm {alarm} is raised: writes are refused until it is disarmed"
            ));
        }
        if let Some(quota) = self.quota_bytes {
            if quota < QUOTA_BYTES_MIN {
                worries.push(format!(
                    "--quota-backend-bytes is {quota}, at least {QUOTA_BYTES_MIN} are needed"
                ));
            } else if self.database_bytes > quota / 4 * 3 {
                let (size, used) = (self.database_bytes, self.in_use_bytes);
                worries.push(format!(
                    "database has {size} of {quota} bytes, {used} of them in use: defragment it"
                ));
            }
        }
        if let Some((applied, snapshots)) = self.applied_and_snapshots
            && applied / (snapshots + 1) > SNAPSHOT_COUNT_MAX
        {
            worries.push(format!(
                "{applied} transactions and {snapshots} snapshots: --snapshot-count is more than {SNAPSHOT_COUNT_MAX}, and all \
                 of them are kept in memory; 5000 is enough"
            ));
        }
        worries
    }
}

/// Asks every member that can be reached.
pub(super) async fn examine(settings: &EtcdSettings) -> Vec<MemberHealth> {
    let asked = settings.endpoints.iter().map(|endpoint| async move {
        let patience = settings.connect_timeout + settings.call_timeout;
        let mut health = timeout(patience, ask(settings, endpoint)).await.ok()?.ok()?;
        if settings.tls.is_none() && !endpoint.starts_with("https://") {
            let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
            if let Ok(Some(metrics)) = timeout(settings.call_timeout, scrape(address)).await {
                health.take_metrics(&metrics);
            }
        }
        Some(health)
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

/// Asks, and logs what is worrying.
pub(super) async fn warn(settings: &EtcdSettings) {
    for member in examine(settings).await {
        for worry in member.worries() {
            tracing::warn!(endpoint = member.endpoint, version = member.version, "etcd: {worry}");
        }
        let old = member.version.starts_with("3.4.") || member.version.starts_with("3.5.");
        if old {
            tracing::info!(
                endpoint = member.endpoint,
                version = member.version,
                "etcd before 3.6 keeps 100,000 transactions in memory unless --snapshot-count says less; 5000 is enough"
            );
        }
    }
}

async fn ask(settings: &EtcdSettings, endpoint: &str) -> Result<MemberHealth, Error> {
    let client = Client::connect([endpoint], Some(options(settings))).await?;
    let mut maintenance = client.maintenance_client();
    let status = maintenance.status().await?;
    let alarms = maintenance.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    let alarms = alarms.alarms().iter().map(|alarm| match alarm.alarm() {
        AlarmType::Nospace => "NOSPACE",
        AlarmType::Corrupt => "CORRUPT",
        AlarmType::None => "(unknown)",
    });
    let quota = status.db_size_quota().unsigned_abs();
    Ok(MemberHealth {
        endpoint: endpoint.to_owned(),
        version: status.version().to_owned(),
        database_bytes: status.db_size().unsigned_abs(),
        in_use_bytes: status.raft_used_db_size().unsigned_abs(),
        quota_bytes: (quota > 0).then_some(quota),
        alarms: alarms.collect(),
        applied_and_snapshots: None,
        resident_bytes: None,
    })
}

/// Reads `/metrics`, if somebody serves it there without encryption.
async fn scrape(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.take(METRICS_BYTES_MAX).read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|code| *code == "200")?;
    Some(body.to_owned())
}

impl MemberHealth {
    fn take_metrics(&mut self, metrics: &str) {
        let number = |name: &str| {
            let line = metrics.lines().find(|line| line.split(' ').next() == Some(name))?;
            let value: f64 = line.rsplit(' ').next()?.parse().ok()?;
            // Counters are written as floating point.
            format!("{value:.0}").parse::<u64>().ok()
        };
        self.quota_bytes = self.quota_bytes.or_else(|| number("etcd_server_quota_backend_bytes"));
        self.resident_bytes = number("process_resident_memory_bytes");
        let applied = number("etcd_server_proposals_applied_total");
        let snapshots = number("etcd_debugging_snap_save_total_duration_seconds_count");
        self.applied_and_snapshots = applied.zip(snapshots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unsafe_is_named() {
        let mut health = MemberHealth {
            quota_bytes: Some(2 << 30),
            database_bytes: 100 << 20,
            ..MemberHealth::default()
        };
        assert_eq!(health.worries(), [""; 0]);
        health.take_metrics(
            "# HELP x\netcd_server_quota_backend_bytes 1.048576e+08\nprocess_resident_memory_bytes 5e+06\n\
             etcd_server_proposals_applied_total 90000\netcd_debugging_snap_save_total_duration_seconds_count 2\n",
        );
        assert_eq!(health.quota_bytes, Some(2 << 30), "the API's word comes first");
        assert_eq!(health.resident_bytes, Some(5_000_000));
        assert_eq!(health.applied_and_snapshots, Some((90_000, 2)));
        let worries = |health: &MemberHealth| health.worries().join("; ");
        assert!(worries(&health).contains("--snapshot-count"), "{health:?}");
        health.applied_and_snapshots = Some((90_000, 9));
        assert_eq!(worries(&health), "");
        health.database_bytes = 1700 << 20;
        assert!(worries(&health).contains("defragment"));
        health.quota_bytes = Some(100 << 20);
        assert!(worries(&health).contains("--quota-backend-bytes is 104857600"));
        health.alarms = vec!["NOSPACE"];
        assert!(worries(&health).contains("NOSPACE"));
    }
}
