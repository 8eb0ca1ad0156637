//! The cluster: its nodes, its features, how much it keeps.

use std::collections::BTreeMap;

use esker_kafka::ApiKey;
use esker_kafka::messages::api_versions_request::ApiVersionsRequest;
use esker_kafka::messages::describe_cluster_request::DescribeClusterRequest;
use esker_kafka::messages::describe_cluster_response::DescribeClusterResponse;
use esker_kafka::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};

use crate::client::{Client, Repeat, To};
use crate::cluster::Topic;
use crate::error::{Error, Refusal};

/// A cluster and what it may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Overview {
    /// Its nodes, and who of them is the controller.
    pub cluster: DescribeClusterResponse,
    /// Levels of its features by name.
    pub features: BTreeMap<String, i16>,
}

impl Client {
    /// The cluster as a whole.
    ///
    /// # Errors
    /// Refusals.
    pub async fn overview(&self) -> Result<Overview, Error> {
        let request = DescribeClusterRequest::default();
        let answer = self.call(To::Any, Repeat::Harmless, &request, |response| {
            let words = response.error_message.as_deref();
            Refusal::check(ApiKey::DescribeCluster, response.error_code, words)
        });
        let mut cluster = answer.await?;
        cluster.brokers.sort_by_key(|broker| broker.broker_id);
        let request = ApiVersionsRequest {
            client_software_name: "esker".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let answer = self.call(To::Any, Repeat::Harmless, &request, |response| {
            Refusal::check(ApiKey::ApiVersions, response.error_code, None)
        });
        let levels = answer.await?.finalized_features.into_iter();
        let features = levels.map(|one| (one.name.into(), one.max_version_level)).collect();
        Ok(Overview { cluster, features })
    }

    /// Bytes of each partition of these topics. Where several nodes hold one, the most that one of them holds.
    ///
    /// # Errors
    /// If a node does not tell.
    pub async fn sizes(&self, topics: &[&Topic]) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let asked = topics.iter().map(|topic| DescribableLogDirTopic {
            topic: topic.name.as_str().into(),
            partitions: topic.partitions.iter().map(|one| one.index).collect(),
        });
        let request = DescribeLogDirsRequest {
            topics: Some(asked.collect()),
        };
        let mut sizes = BTreeMap::new();
        for node in self.nodes().await? {
            let answer = self.call(To::Node(node.id), Repeat::Harmless, &request, |response| {
                Refusal::check(ApiKey::DescribeLogDirs, response.error_code, None)
            });
            for dir in answer.await?.results {
                Refusal::check(ApiKey::DescribeLogDirs, dir.error_code, None)?;
                for topic in dir.topics {
                    for one in topic.partitions.iter().filter(|one| !one.is_future_key) {
                        let key = (String::from(topic.name.clone()), one.partition_index);
                        let size = sizes.entry(key).or_insert(0);
                        *size = one.partition_size.max(*size);
                    }
                }
            }
        }
        Ok(sizes)
    }
}
