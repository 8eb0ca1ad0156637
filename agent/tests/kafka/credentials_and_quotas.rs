//! Client quotas and SCRAM credentials: kept and told, and what is refused.

use bytes::Bytes;
use esker_kafka::messages::alter_client_quotas_request::{AlterClientQuotasRequest, EntityData, EntryData, OpData};
use esker_kafka::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use esker_kafka::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use esker_kafka::messages::describe_user_scram_credentials_request::{DescribeUserScramCredentialsRequest, UserName};
use esker_kafka::{ErrorCode, Str};

use crate::broker::Broker;
use crate::client::Client;
use crate::requests::code;

fn quota(entity: &[(&str, Option<&str>)], ops: &[(&str, Option<f64>)]) -> EntryData {
    let entity = entity.iter().map(|(of, name)| EntityData {
        entity_type: Str::from(*of),
        entity_name: name.map(Str::from),
    });
    let ops = ops.iter().map(|(key, value)| OpData {
        key: Str::from(*key),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
    });
    EntryData {
        entity: entity.collect(),
        ops: ops.collect(),
    }
}

async fn alter(client: &mut Client, entry: EntryData, validate_only: bool) -> ErrorCode {
    let request = AlterClientQuotasRequest {
        entries: vec![entry],
        validate_only,
    };
    let response = client.call(1, &request).await;
    code(response.entries[0].error_code)
}

/// What a filter finds, as `type=name,… key=value,…`.
async fn found(client: &mut Client, filter: &[(&str, i8, Option<&str>)], strict: bool) -> (ErrorCode, Vec<String>) {
    let components = filter.iter().map(|(of, match_type, name)| ComponentData {
        entity_type: Str::from(*of),
        match_type: *match_type,
        r#match: name.map(Str::from),
    });
    let request = DescribeClientQuotasRequest {
        components: components.collect(),
        strict,
    };
    let response = client.call(1, &request).await;
    let entries = response.entries.unwrap_or_default();
    let entries = entries.iter().map(|entry| {
        let name = |part: &Option<Str>| part.as_deref().unwrap_or("(default)").to_owned();
        let entity = entry
            .entity
            .iter()
            .map(|e| format!("{}={}", e.entity_type, name(&e.entity_name)));
        let values = entry.values.iter().map(|v| format!("{}={}", v.key, v.value));
        format!(
            "{} {}",
            entity.collect::<Vec<_>>().join(","),
            values.collect::<Vec<_>>().join(",")
        )
    });
    (code(response.error_code), entries.collect())
}

#[tokio::test]
async fn quotas_are_kept_and_found_by_filters() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let rate = [("producer_byte_rate", Some(1024.0)), ("request_percentage", Some(12.5))];
    let user = [("user", Some("a/b"))];
    assert_eq!(alter(&mut client, quota(&user, &rate), true).await, ErrorCode::None);
    assert_eq!(found(&mut client, &[], false).await, (ErrorCode::None, vec![]));
    assert_eq!(alter(&mut client, quota(&user, &rate), false).await, ErrorCode::None);
    let both = [("client-id", None), ("user", Some("a/b"))];
    let one = [("consumer_byte_rate", Some(7.0))];
    assert_eq!(alter(&mut client, quota(&both, &one), false).await, ErrorCode::None);
    let address = [("ip", Some("127.0.0.1"))];
    let connections = [("connection_creation_rate", Some(3.0))];
    assert_eq!(
        alter(&mut client, quota(&address, &connections), false).await,
        ErrorCode::None
    );

    let of_user = "user=a/b producer_byte_rate=1024,request_percentage=12.5".to_owned();
    let of_both = "client-id=(default),user=a/b consumer_byte_rate=7".to_owned();
    let wanted = vec![of_both.clone(), of_user.clone()];
    assert_eq!(found(&mut client, &[("user", 2, None)], false).await.1, wanted);
    assert_eq!(found(&mut client, &[("user", 0, Some("a/b"))], true).await.1, [of_user]);
    assert_eq!(found(&mut client, &[("client-id", 1, None)], false).await.1, [of_both]);
    assert_eq!(found(&mut client, &[], false).await.1.len(), 3);
    for (filter, wanted) in [
        (vec![("color", 2, None)], ErrorCode::UnsupportedVersion),
        (vec![("", 2, None)], ErrorCode::InvalidRequest),
        (vec![("user", 0, None)], ErrorCode::InvalidRequest),
        (vec![("user", 2, None), ("user", 1, None)], ErrorCode::InvalidRequest),
        (vec![("ip", 2, None), ("user", 1, None)], ErrorCode::InvalidRequest),
    ] {
        assert_eq!(found(&mut client, &filter, false).await, (wanted, vec![]));
    }
    let gone = [("producer_byte_rate", None), ("request_percentage", None)];
    assert_eq!(alter(&mut client, quota(&user, &gone), false).await, ErrorCode::None);
    assert_eq!(found(&mut client, &[], false).await.1.len(), 2);
}

#[tokio::test]
async fn quotas_that_cannot_be_are_refused() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let user = [("user", Some("u"))];
    for entry in [
        quota(&[], &[("producer_byte_rate", Some(1.0))]),
        quota(&[("color", Some("red"))], &[("producer_byte_rate", Some(1.0))]),
        quota(&[("user", Some(""))], &[("producer_byte_rate", Some(1.0))]),
        quota(&[("user", None), ("user", Some("u"))], &[]),
        quota(&[("ip", Some("127.0.0.1")), ("user", None)], &[]),
        quota(&[("ip", Some("here"))], &[]),
        quota(&[("ip", None)], &[("producer_byte_rate", Some(1.0))]),
        quota(&user, &[("no_such_rate", Some(1.0))]),
        quota(&user, &[("producer_byte_rate", Some(0.0))]),
        quota(&user, &[("producer_byte_rate", Some(1.5))]),
        quota(&user, &[("request_percentage", Some(f64::NAN))]),
        quota(
            &user,
            &[("producer_byte_rate", Some(1.0)), ("producer_byte_rate", None)],
        ),
    ] {
        assert_eq!(
            alter(&mut client, entry.clone(), false).await,
            ErrorCode::InvalidRequest,
            "{entry:?}"
        );
    }
    assert_eq!(found(&mut client, &[], false).await.1.len(), 0);
}

fn upsertion(name: &str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion {
    ScramCredentialUpsertion {
        name: Str::from(name),
        mechanism,
        iterations,
        salt: Bytes::from_static(b"salt"),
        salted_password: Bytes::from(vec![7; if mechanism == 2 { 64 } else { 32 }]),
    }
}

fn deletion(name: &str, mechanism: i8) -> ScramCredentialDeletion {
    ScramCredentialDeletion {
        name: Str::from(name),
        mechanism,
    }
}

async fn change(
    client: &mut Client,
    upsertions: Vec<ScramCredentialUpsertion>,
    deletions: Vec<ScramCredentialDeletion>,
) -> Vec<(String, ErrorCode)> {
    let request = AlterUserScramCredentialsRequest { deletions, upsertions };
    let response = client.call(0, &request).await;
    let results = response.results.iter();
    results
        .map(|r| (r.user.as_str().to_owned(), code(r.error_code)))
        .collect()
}

async fn credentials(client: &mut Client, users: Option<&[&str]>) -> Vec<(String, ErrorCode, Vec<(i8, i32)>)> {
    let user = |name: &&str| UserName { name: Str::from(*name) };
    let request = DescribeUserScramCredentialsRequest {
        users: users.map(|users| users.iter().map(user).collect()),
    };
    let response = client.call(0, &request).await;
    assert_eq!(response.error_code, 0);
    let result = response.results.iter().map(|result| {
        let infos = result
            .credential_infos
            .iter()
            .map(|info| (info.mechanism, info.iterations));
        (
            result.user.as_str().to_owned(),
            code(result.error_code),
            infos.collect(),
        )
    });
    result.collect()
}

#[tokio::test]
async fn credentials_are_kept_told_and_deleted() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let fine = |name: &str| (name.to_owned(), ErrorCode::None);
    let done = change(
        &mut client,
        vec![upsertion("ann", 1, 4_096), upsertion("bob", 1, 5_000)],
        vec![],
    );
    assert_eq!(done.await, [fine("ann"), fine("bob")]);
    assert_eq!(
        change(&mut client, vec![upsertion("ann", 2, 8_192)], vec![]).await,
        [fine("ann")]
    );
    let ann = ("ann".to_owned(), ErrorCode::None, vec![(1, 4_096), (2, 8_192)]);
    let bob = ("bob".to_owned(), ErrorCode::None, vec![(1, 5_000)]);
    assert_eq!(credentials(&mut client, None).await, [ann, bob.clone()]);
    let asked = credentials(&mut client, Some(&["bob", "cid", "dan", "dan"])).await;
    let nobody = |name: &str, code| (name.to_owned(), code, vec![]);
    let wanted = [
        bob,
        nobody("cid", ErrorCode::ResourceNotFound),
        nobody("dan", ErrorCode::DuplicateResource),
    ];
    assert_eq!(asked, wanted);
    assert_eq!(
        change(&mut client, vec![], vec![deletion("ann", 1)]).await,
        [fine("ann")]
    );
    assert_eq!(credentials(&mut client, Some(&["ann"])).await[0].2, [(2, 8_192)]);
}

#[tokio::test]
async fn credentials_that_cannot_be_are_refused() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    for (upsertions, deletions, wanted) in [
        (
            vec![upsertion("u", 1, 4_095)],
            vec![],
            ErrorCode::UnacceptableCredential,
        ),
        (
            vec![upsertion("u", 1, 16_385)],
            vec![],
            ErrorCode::UnacceptableCredential,
        ),
        (vec![upsertion("", 1, 4_096)], vec![], ErrorCode::UnacceptableCredential),
        (
            vec![upsertion("u", 3, 4_096)],
            vec![],
            ErrorCode::UnsupportedSaslMechanism,
        ),
        (vec![upsertion("u", 1, 4_096); 2], vec![], ErrorCode::DuplicateResource),
        (
            vec![upsertion("u", 1, 4_096)],
            vec![deletion("u", 1)],
            ErrorCode::ResourceNotFound,
        ),
        (vec![], vec![deletion("u", 1)], ErrorCode::ResourceNotFound),
        (
            vec![upsertion("u", 1, 4_096), upsertion("u", 2, 4_096)],
            vec![],
            ErrorCode::DuplicateResource,
        ),
    ] {
        let answered = change(&mut client, upsertions, deletions).await;
        assert_eq!(answered.iter().map(|(_, code)| *code).collect::<Vec<_>>(), [wanted]);
    }
    assert_eq!(credentials(&mut client, None).await, []);
}

#[tokio::test]
async fn quotas_and_credentials_are_altered_some_at_a_time_and_kept_up_to_a_number() {
    let broker = Broker::start().await;
    let mut client = broker.connect().await;
    let entries = |batch: usize, count: usize| AlterClientQuotasRequest {
        entries: (0..count)
            .map(|index| {
                let user = format!("u{batch}-{index}");
                quota(&[("user", Some(&user))], &[("producer_byte_rate", Some(1.0))])
            })
            .collect(),
        validate_only: false,
    };
    let response = client.call(1, &entries(0, 101)).await;
    let codes: Vec<_> = response.entries.iter().map(|entry| code(entry.error_code)).collect();
    assert!(codes[..100].iter().all(|code| *code == ErrorCode::None), "{codes:?}");
    assert_eq!(codes[100], ErrorCode::InvalidRequest);
    for batch in 1..10 {
        client.call(1, &entries(batch, 100)).await;
    }
    let response = client.call(1, &entries(10, 1)).await;
    assert_eq!(code(response.entries[0].error_code), ErrorCode::PolicyViolation);
    let users = |batch: usize, count: usize| -> Vec<_> {
        (0..count)
            .map(|index| upsertion(&format!("u{batch}-{index}"), 1, 4_096))
            .collect()
    };
    let refused = change(&mut client, users(0, 101), vec![]).await;
    assert!(refused.iter().all(|(_, code)| *code == ErrorCode::InvalidRequest));
    for batch in 0..10 {
        let done = change(&mut client, users(batch, 100), vec![]).await;
        assert!(done.iter().all(|(_, code)| *code == ErrorCode::None), "{done:?}");
    }
    let refused = change(&mut client, users(10, 1), vec![]).await;
    assert_eq!(refused[0].1, ErrorCode::PolicyViolation);
}
