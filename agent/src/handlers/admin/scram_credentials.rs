//! `DescribeUserScramCredentials` and `AlterUserScramCredentials` (KIP-554): credentials are kept and told. Nobody authenticates by them
//! yet.
//!
//! Owns: the checks, and what is kept instead of the salted password.
//! Does not own: how it is kept (`esker_metadata::keys::scram`).
//!
//! Invariants: no password and no salted password is stored, shown or logged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use esker_kafka::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use esker_kafka::messages::alter_user_scram_credentials_response::{
    AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
};
use esker_kafka::messages::describe_user_scram_credentials_request::DescribeUserScramCredentialsRequest;
use esker_kafka::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
};
use esker_kafka::{ErrorCode, Str};
use esker_metadata::keys::scram::{self, Credential, Mechanism, SALT_BYTES_MAX};
use ring::{digest, hmac};

use super::stored::{self, ALTERATIONS_MAX, Census, Change, FAMILY_MAX, NAME_BYTES_MAX};
use crate::agent::Agent;
use crate::handlers::create_topics::Refused;

/// Rounds that Kafka allows.
const ITERATIONS: std::ops::RangeInclusive<i32> = 4_096..=16_384;

fn mechanism(code: i8) -> Option<Mechanism> {
    match code {
        1 => Some(Mechanism::Sha256),
        2 => Some(Mechanism::Sha512),
        _ => None,
    }
}

const fn code_of(mechanism: Mechanism) -> i8 {
    match mechanism {
        Mechanism::Sha256 => 1,
        Mechanism::Sha512 => 2,
    }
}

/// Answers: the users asked for, or all.
pub async fn describe(
    agent: &Arc<Agent>,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let held = match stored::read_all(agent, scram::PREFIX.into()).await {
        Ok(held) => held,
        Err((code, message)) => {
            return DescribeUserScramCredentialsResponse {
                error_code: code.code(),
                error_message: Some(Str::from(message)),
                ..Default::default()
            };
        }
    };
    let mut users: BTreeMap<Str, Vec<CredentialInfo>> = BTreeMap::new();
    for kv in &held {
        let (Some((mechanism, user)), Ok(credential)) = (scram::parse_key(&kv.key), Credential::decode(&kv.value))
        else {
            continue;
        };
        users.entry(Str::from(user)).or_default().push(CredentialInfo {
            mechanism: code_of(mechanism),
            iterations: i32::try_from(credential.iterations).unwrap_or(i32::MAX),
        });
    }
    let asked: Vec<Str> = request.users.into_iter().flatten().map(|user| user.name).collect();
    let results = if asked.is_empty() {
        let told = users.into_iter().map(|(user, infos)| described(user, Ok(infos)));
        told.collect()
    } else {
        let mut times: BTreeMap<&Str, usize> = BTreeMap::new();
        asked.iter().for_each(|user| *times.entry(user).or_default() += 1);
        let tell = |(user, times): (&Str, usize)| {
            let infos = if times > 1 {
                let message = "Cannot describe SCRAM credentials for the same user twice in a single request";
                Err((ErrorCode::DuplicateResource, message.to_owned()))
            } else {
                let message = format!("Attempt to describe a user credential that does not exist: {user:.250}");
                users.get(user).cloned().ok_or((ErrorCode::ResourceNotFound, message))
            };
            described(user.clone(), infos)
        };
        times.into_iter().map(tell).collect()
    };
    DescribeUserScramCredentialsResponse {
        error_message: None,
        results,
        ..Default::default()
    }
}

fn described(user: Str, infos: Result<Vec<CredentialInfo>, Refused>) -> DescribeUserScramCredentialsResult {
    let (credential_infos, refused) = match infos {
        Ok(infos) => (infos, None),
        Err(refused) => (Vec::new(), Some(refused)),
    };
    DescribeUserScramCredentialsResult {
        user,
        error_code: refused.as_ref().map_or(0, |(code, _)| code.code()),
        error_message: refused.map(|(_, message)| Str::from(message)),
        credential_infos,
    }
}

/// What becomes of a credential of one user: one change in a request, as in Kafka, also of two mechanisms.
#[derive(Default)]
struct Wanted {
    change: Option<(Mechanism, Option<Credential>)>,
    refused: Option<Refused>,
}

impl Wanted {
    fn add(&mut self, mechanism: Mechanism, credential: Option<Credential>) {
        if self.change.is_none() {
            self.change = Some((mechanism, credential));
        } else {
            let message = "A user credential cannot be altered twice in the same request";
            self.refuse(ErrorCode::DuplicateResource, message);
        }
    }

    fn refuse(&mut self, code: ErrorCode, message: &str) {
        self.refused.get_or_insert_with(|| (code, message.to_owned()));
    }
}

/// Answers; every user of the request is in the answer once. Of a user that is named twice nothing changes.
pub async fn alter(agent: &Arc<Agent>, request: AlterUserScramCredentialsRequest) -> AlterUserScramCredentialsResponse {
    let too_many = request.deletions.len() + request.upsertions.len() > ALTERATIONS_MAX;
    let mut users: BTreeMap<Str, Wanted> = BTreeMap::new();
    for deletion in request.deletions {
        let user = users.entry(deletion.name).or_default();
        match mechanism(deletion.mechanism) {
            Some(mechanism) => user.add(mechanism, None),
            None => user.refuse(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism"),
        }
    }
    for upsertion in request.upsertions {
        let user = users.entry(upsertion.name.clone()).or_default();
        match credential(&upsertion) {
            Ok((mechanism, credential)) => user.add(mechanism, Some(credential)),
            Err((code, message)) => user.refuse(code, message),
        }
    }
    let mut results = Vec::with_capacity(users.len());
    let mut census = Census::default();
    for (user, mut wanted) in users {
        if user.is_empty() || user.len() > NAME_BYTES_MAX {
            wanted.refuse(
                ErrorCode::UnacceptableCredential,
                "Username must not be empty or too long",
            );
        }
        if too_many {
            wanted.refuse(ErrorCode::InvalidRequest, "too many credentials in one request");
        }
        let refused = store(agent, &mut census, &user, wanted).await.err();
        results.push(AlterUserScramCredentialsResult {
            user,
            error_code: refused.as_ref().map_or(0, |(code, _)| code.code()),
            error_message: refused.map(|(_, message)| Str::from(message)),
        });
    }
    AlterUserScramCredentialsResponse {
        results,
        ..Default::default()
    }
}

async fn store(agent: &Agent, census: &mut Census, user: &str, wanted: Wanted) -> Result<(), Refused> {
    // A deletion of nothing is refused as such, also where the user is named once more.
    let twice = |refused: &Refused| refused.0 == ErrorCode::DuplicateResource;
    if let Some(refused) = wanted.refused.clone().filter(|refused| !twice(refused)) {
        return Err(refused);
    }
    let Some((mechanism, credential)) = wanted.change else {
        return Ok(());
    };
    let key = scram::key(mechanism, user);
    if credential.is_none() && stored::read_one(agent, key.clone()).await?.is_none() {
        let message = "Attempt to delete a user credential that does not exist";
        return Err((ErrorCode::ResourceNotFound, message.to_owned()));
    }
    if let Some(refused) = wanted.refused {
        return Err(refused);
    }
    if credential.is_some() {
        census.admit(agent, scram::PREFIX.into(), &key, FAMILY_MAX).await?;
    }
    let decide = |_: Option<&Bytes>| {
        let put = credential.as_ref().map(|credential| Change::Put(credential.encode()));
        Ok(put.unwrap_or(Change::Delete))
    };
    stored::change(agent, key, decide).await
}

/// What is kept instead of a salted password.
fn credential(asked: &ScramCredentialUpsertion) -> Result<(Mechanism, Credential), (ErrorCode, &'static str)> {
    let unacceptable = |message| Err((ErrorCode::UnacceptableCredential, message));
    let Some(mechanism) = mechanism(asked.mechanism) else {
        return Err((ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism"));
    };
    let (hash, algorithm) = match mechanism {
        Mechanism::Sha256 => (&digest::SHA256, hmac::HMAC_SHA256),
        Mechanism::Sha512 => (&digest::SHA512, hmac::HMAC_SHA512),
    };
    if asked.iterations < *ITERATIONS.start() {
        return unacceptable("Too few iterations");
    }
    if asked.iterations > *ITERATIONS.end() {
        return unacceptable("Too many iterations");
    }
    if asked.salt.is_empty() || asked.salt.len() > SALT_BYTES_MAX {
        return unacceptable("a salt of at least one and not too many bytes is needed");
    }
    if asked.salted_password.len() != hash.output_len() {
        return unacceptable("the salted password is not as long as the hash of its mechanism");
    }
    let password = hmac::Key::new(algorithm, &asked.salted_password);
    let client_key = hmac::sign(&password, b"Client Key");
    let credential = Credential {
        iterations: asked.iterations.unsigned_abs(),
        salt: Bytes::copy_from_slice(&asked.salt),
        stored_key: Bytes::copy_from_slice(digest::digest(hash, client_key.as_ref()).as_ref()),
        server_key: Bytes::copy_from_slice(hmac::sign(&password, b"Server Key").as_ref()),
    };
    Ok((mechanism, credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677: user `user`, password `pencil`.
    #[test]
    fn keys_are_those_of_the_rfc() {
        let salted = [
            0xc4, 0xa4, 0x95, 0x10, 0x32, 0x3a, 0xb4, 0xf9, 0x52, 0xca, 0xc1, 0xfa, 0x99, 0x44, 0x19, 0x39, 0xe7, 0x8e,
            0xa7, 0x4d, 0x6b, 0xe8, 0x1d, 0xdf, 0x70, 0x96, 0xe8, 0x75, 0x13, 0xdc, 0x61, 0x5d,
        ];
        let mut asked = ScramCredentialUpsertion {
            name: Str::from_static("user"),
            mechanism: 1,
            iterations: 4_096,
            salt: Bytes::from_static(b"salt"),
            salted_password: Bytes::copy_from_slice(&salted),
        };
        let (found, kept) = credential(&asked).expect("acceptable");
        assert_eq!(found, Mechanism::Sha256);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (stored, server) = (hex(&kept.stored_key), hex(&kept.server_key));
        assert_eq!(
            stored,
            "586e5df283e6dceb5c3e791d8b8528ec191e664045ce971792e2e6b5bb13e2a6"
        );
        assert_eq!(
            server,
            "c1f3cbc1c13a9d35a14c0990eed97629ea225863e566a4314ab99f3f00e5d9d5"
        );
        assert!(!kept.encode().windows(32).any(|window| window == salted));
        asked.mechanism = 2;
        assert_eq!(
            credential(&asked).expect_err("too short").0,
            ErrorCode::UnacceptableCredential
        );
        asked.mechanism = 3;
        assert_eq!(
            credential(&asked).expect_err("unknown").0,
            ErrorCode::UnsupportedSaslMechanism
        );
    }
}
