//! `DescribeClientQuotas` and `AlterClientQuotas` (KIP-546): quotas are kept and told. Nothing enforces them yet.
//!
//! Owns: which entities and quotas there are, what a filter matches.
//! Does not own: how they are kept (`esker_metadata::keys::quota`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use esker_kafka::messages::alter_client_quotas_request::{self, AlterClientQuotasRequest};
use esker_kafka::messages::alter_client_quotas_response::{self, AlterClientQuotasResponse};
use esker_kafka::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use esker_kafka::messages::describe_client_quotas_response::{
    DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};
use esker_kafka::{ErrorCode, Str};
use esker_metadata::keys::quota::{self, Entity, Quotas};

use super::stored::{self, ALTERATIONS_MAX, Census, Change, FAMILY_MAX, NAME_BYTES_MAX};
use crate::agent::Agent;
use crate::handlers::create_topics::Refused;

const TYPES: [&str; 3] = ["user", "client-id", "ip"];
/// Quotas of users and clients.
const CLIENT_QUOTAS: [&str; 4] = [
    "producer_byte_rate",
    "consumer_byte_rate",
    "request_percentage",
    "controller_mutation_rate",
];
/// Quotas of addresses.
const ADDRESS_QUOTAS: [&str; 1] = ["connection_creation_rate"];

/// How long it may take to find out whether there is an address of a name.
const LOOK_UP_MAX: Duration = Duration::from_secs(5);

/// How a filter looks at a type, as requests number it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Match {
    Exact(String),
    Default,
    Any,
}

/// Answers.
pub async fn describe(agent: &Arc<Agent>, request: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    match matching(agent, &request).await {
        Ok(entries) => DescribeClientQuotasResponse {
            error_message: None,
            entries: Some(entries),
            ..Default::default()
        },
        Err((code, message)) => DescribeClientQuotasResponse {
            error_code: code.code(),
            error_message: Some(Str::from(message)),
            entries: None,
            ..Default::default()
        },
    }
}

async fn matching(agent: &Agent, request: &DescribeClientQuotasRequest) -> Result<Vec<EntryData>, Refused> {
    let filter = filter(&request.components)?;
    let mut entries = Vec::new();
    for kv in stored::read_all(agent, quota::PREFIX.into()).await? {
        let Some(entity) = quota::parse_key(&kv.key) else {
            continue;
        };
        let Ok(quotas) = Quotas::decode(&kv.value) else {
            continue;
        };
        if !matches(&filter, request.strict, &entity) {
            continue;
        }
        let entity = entity.into_iter().map(|(of, name)| EntityData {
            entity_type: Str::from(of),
            entity_name: name.map(Str::from),
        });
        let values = quotas.values.into_iter().map(|(key, value)| ValueData {
            key: Str::from(key),
            value,
        });
        entries.push(EntryData {
            entity: entity.collect(),
            values: values.collect(),
        });
    }
    Ok(entries)
}

fn filter(components: &[ComponentData]) -> Result<BTreeMap<&str, Match>, Refused> {
    let invalid = |message: &str| (ErrorCode::InvalidRequest, message.to_owned());
    let mut filter = BTreeMap::new();
    for component in components {
        let of = component.entity_type.as_str();
        if of.is_empty() {
            return Err(invalid("Unexpected empty entity type"));
        }
        if !TYPES.contains(&of) {
            let message = "only user, client-id and ip have quotas";
            return Err((ErrorCode::UnsupportedVersion, message.to_owned()));
        }
        let name = component.r#match.as_ref().map(|name| name.as_str().to_owned());
        let wanted = match (component.match_type, name) {
            (0, Some(name)) => Match::Exact(name),
            (1, None) => Match::Default,
            (2, None) => Match::Any,
            _ => return Err(invalid("a name is needed for exact matches and for no others")),
        };
        if filter.insert(of, wanted).is_some() {
            return Err(invalid("Duplicate entity type in the filter"));
        }
    }
    if filter.contains_key("ip") && filter.len() > 1 {
        return Err(invalid("an address cannot be combined with a user or a client id"));
    }
    Ok(filter)
}

fn matches(filter: &BTreeMap<&str, Match>, strict: bool, entity: &Entity) -> bool {
    let component = |(of, wanted): (&&str, &Match)| {
        let part = entity.iter().find(|(found, _)| found == of);
        part.is_some_and(|(_, name)| match wanted {
            Match::Exact(wanted) => name.as_deref() == Some(wanted),
            Match::Default => name.is_none(),
            Match::Any => true,
        })
    };
    filter.iter().all(component) && (!strict || entity.len() == filter.len())
}

/// Answers; every entry of the request is in the answer.
pub async fn alter(agent: &Arc<Agent>, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut census = Census::default();
    for (index, entry) in request.entries.into_iter().enumerate() {
        let altered = if index < ALTERATIONS_MAX {
            alter_one(agent, &mut census, &entry, request.validate_only).await
        } else {
            let message = format!("a request may alter the quotas of {ALTERATIONS_MAX} entities");
            Err((ErrorCode::InvalidRequest, message))
        };
        let refused = altered.err();
        let part = |part: alter_client_quotas_request::EntityData| alter_client_quotas_response::EntityData {
            entity_type: part.entity_type,
            entity_name: part.entity_name,
        };
        entries.push(alter_client_quotas_response::EntryData {
            error_code: refused.as_ref().map_or(0, |(code, _)| code.code()),
            error_message: refused.map(|(_, message)| Str::from(message)),
            entity: entry.entity.into_iter().map(part).collect(),
        });
    }
    AlterClientQuotasResponse {
        entries,
        ..Default::default()
    }
}

async fn alter_one(
    agent: &Agent,
    census: &mut Census,
    entry: &alter_client_quotas_request::EntryData,
    validate_only: bool,
) -> Result<(), Refused> {
    let entity = entity(&entry.entity)?;
    check_ops(&entity, &entry.ops)?;
    check_address(&entity).await?;
    let key = quota::key(&entity);
    if !validate_only {
        census.admit(agent, quota::PREFIX.into(), &key, FAMILY_MAX).await?;
    }
    let decide = |held: Option<&bytes::Bytes>| {
        let old = held.map(|value| Quotas::decode(value)).transpose();
        let old = old.map_err(|error| (ErrorCode::UnknownServerError, error.to_string()))?;
        let mut values: BTreeMap<String, f64> = old.clone().unwrap_or_default().values.into_iter().collect();
        for op in &entry.ops {
            if op.remove {
                values.remove(op.key.as_str());
            } else {
                values.insert(op.key.as_str().to_owned(), op.value);
            }
        }
        let new = Quotas {
            values: values.into_iter().collect(),
        };
        if validate_only || new == old.unwrap_or_default() {
            return Ok(Change::Nothing);
        }
        if new.values.is_empty() {
            return Ok(Change::Delete);
        }
        Ok(Change::Put(new.encode()))
    };
    stored::change(agent, key, decide).await
}

fn entity(parts: &[alter_client_quotas_request::EntityData]) -> Result<Entity, Refused> {
    let invalid = |message: &str| Err((ErrorCode::InvalidRequest, message.to_owned()));
    let mut entity = BTreeMap::new();
    for part in parts {
        let of = part.entity_type.as_str();
        let name = part.entity_name.as_ref().map(|name| name.as_str().to_owned());
        if !TYPES.contains(&of) {
            return invalid("only user, client-id and ip have quotas");
        }
        if name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES_MAX)
        {
            return invalid("a name of at least one and not too many bytes is needed");
        }
        if entity.insert(of.to_owned(), name).is_some() {
            return invalid("Invalid client quota entity: a type stands in it twice");
        }
    }
    if entity.is_empty() {
        return invalid("Invalid empty client quota entity");
    }
    if entity.contains_key("ip") && entity.len() > 1 {
        return invalid("an address cannot be combined with a user or a client id");
    }
    Ok(entity.into_iter().collect())
}

/// As in Kafka, an address may be given by name, if there is an address of that name. It stays the name.
async fn check_address(entity: &Entity) -> Result<(), Refused> {
    let named = entity.iter().find(|(of, _)| of == "ip");
    let Some((_, Some(name))) = named else { return Ok(()) };
    let found = tokio::time::timeout(LOOK_UP_MAX, tokio::net::lookup_host((name.as_str(), 0))).await;
    if found.is_ok_and(|found| found.is_ok()) {
        return Ok(());
    }
    let message = format!("{name:.250} is not a valid IP or resolvable host.");
    Err((ErrorCode::InvalidRequest, message))
}

fn check_ops(entity: &Entity, ops: &[alter_client_quotas_request::OpData]) -> Result<(), Refused> {
    let invalid = |message: String| Err((ErrorCode::InvalidRequest, message));
    let known: &[&str] = if entity.iter().any(|(of, _)| of == "ip") {
        &ADDRESS_QUOTAS
    } else {
        &CLIENT_QUOTAS
    };
    let mut seen = BTreeSet::new();
    for op in ops {
        let key = op.key.as_str();
        if !known.contains(&key) {
            return invalid(format!("Invalid configuration key {key:.250}"));
        }
        if !seen.insert(key) {
            return invalid(format!("Duplicate quota key {key:.250}"));
        }
        if op.remove {
            continue;
        }
        if !op.value.is_finite() || op.value <= 0.0 {
            return invalid(format!("Quota {key:.250} must be greater than 0"));
        }
        let whole = key.ends_with("_byte_rate") || key == "connection_creation_rate";
        if whole && op.value.fract() != 0.0 {
            return invalid(format!("{key:.250} cannot be a fractional value."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(of: &str, name: Option<&str>) -> (String, Option<String>) {
        (of.to_owned(), name.map(str::to_owned))
    }

    #[test]
    fn filters_match_by_type_and_name() {
        let entity = vec![part("client-id", None), part("user", Some("a"))];
        let wants = |pairs: &[(&'static str, Match)], strict| {
            let filter: BTreeMap<&str, Match> = pairs.iter().cloned().collect();
            matches(&filter, strict, &entity)
        };
        assert!(wants(&[], false) && !wants(&[], true));
        assert!(wants(&[("user", Match::Any)], false) && !wants(&[("user", Match::Any)], true));
        let both = [("user", Match::Exact("a".to_owned())), ("client-id", Match::Default)];
        assert!(wants(&both, true));
        assert!(!wants(&[("user", Match::Default)], false));
        assert!(!wants(&[("user", Match::Exact("b".to_owned()))], false));
        assert!(!wants(&[("ip", Match::Any)], false));
    }
}
